//! Requests as they arrive: checked from their bytes, and only then built.

use bytes::Bytes;
use prost::{DecodeError, Message};

use super::{
    proto,
    request::{MAX_EXTRAS, MAX_TASKS, RequestError, check_id_length, parse_task},
    response::Echo,
    wire::{Fields, Value, packed_numbers},
};
use crate::image::PixelFormat;

/// Maximum bytes of the JSON of a preprocessing; a head's own has about 200.
const MAX_PREPROCESS_BYTES: usize = 64 << 10;
/// Bytes of a name that may be looked at; the longest names that are valid are far shorter.
const MAX_NAME_BYTES: usize = 256;

/// A request, or why it was refused before it was built.
///
/// Guarantees:
/// 1. A message is refused for its counts and lengths before anything is allocated for it.
/// 2. A request that is there has at most 1,024 tasks and 64 extras, and its texts are short.
/// 3. The picture of a request shares the bytes of the message.
#[derive(Debug)]
pub struct Received<M> {
    pub(super) echo: Echo,
    pub(super) request: Result<M, RequestError>,
    /// Bytes of the message, all of which its picture keeps in memory.
    pub(super) bytes: usize,
}

/// A request whose bytes tell whether it may be built.
pub trait Checked: Message + Default {
    /// Numbers of the fields `request_id` and `part_id`; 0 for one that it does not have.
    const IDS: [u32; 2];

    /// Checks the counts and lengths of the fields.
    #[expect(private_interfaces, reason = "only this module's services use it")]
    fn check(message: &[u8]) -> Result<(), RequestError>;
}

impl<M: Checked> Received<M> {
    /// Decodes a message, unless its bytes say that it is refused.
    ///
    /// # Errors
    /// If the bytes are not a message.
    pub(super) fn decode(message: Bytes) -> Result<Self, DecodeError> {
        let echo = Echo::in_message(&message, M::IDS);
        let bytes = message.len();
        let request = match M::check(&message) {
            Ok(()) => Ok(M::decode(message)?),
            Err(error) => Err(error),
        };
        Ok(Self { echo, request, bytes })
    }
}

impl Checked for proto::ClassifyRequest {
    const IDS: [u32; 2] = [3, 4];

    #[expect(private_interfaces, reason = "only this module's services use it")]
    fn check(message: &[u8]) -> Result<(), RequestError> {
        let (mut tasks, mut extras) = (0, 0);
        let mut others = Ok(());
        for field in Fields::of(message) {
            let checked = match field {
                (1, Value::Delimited(name)) => {
                    tasks += 1;
                    check_task(name)
                }
                (2, Value::Delimited(image)) => check_image(image),
                (3, Value::Delimited(id)) => check_id_length("request_id", id.len()),
                (4, Value::Delimited(id)) => check_id_length("part_id", id.len()),
                (6, Value::Delimited(head)) if head.len() > MAX_NAME_BYTES => {
                    Err(RequestError::BadRequirement { text: start_of(head) })
                }
                (7, Value::Delimited(packed)) => {
                    extras += packed_numbers(packed);
                    Ok(())
                }
                (7, Value::Number) => {
                    extras += 1;
                    Ok(())
                }
                _ => Ok(()),
            };
            // The counts are told in full, so the walk goes on.
            if others.is_ok() {
                others = checked;
            }
        }
        if tasks > MAX_TASKS {
            return Err(RequestError::TooManyTasks { found: tasks });
        }
        if extras > MAX_EXTRAS {
            return Err(RequestError::TooManyExtras { found: extras });
        }
        others
    }
}

impl Checked for proto::EmbedRequest {
    const IDS: [u32; 2] = [1, 0];

    #[expect(private_interfaces, reason = "only this module's services use it")]
    fn check(message: &[u8]) -> Result<(), RequestError> {
        Fields::of(message).try_for_each(|field| match field {
            (1, Value::Delimited(id)) => check_id_length("request_id", id.len()),
            (2, Value::Delimited(image)) => check_image(image),
            (4, Value::Delimited(json)) if json.len() > MAX_PREPROCESS_BYTES => {
                let found = json.len();
                let detail =
                    format!("found {found} bytes, at most {MAX_PREPROCESS_BYTES} are taken");
                Err(RequestError::Preprocess { detail })
            }
            _ => Ok(()),
        })
    }
}

impl Checked for proto::ListHeadsRequest {
    const IDS: [u32; 2] = [0, 0];

    #[expect(private_interfaces, reason = "only this module's services use it")]
    fn check(message: &[u8]) -> Result<(), RequestError> {
        Fields::of(message).try_for_each(|field| match field {
            (1, Value::Delimited(name)) if name.len() > MAX_NAME_BYTES => {
                parse_task("task", &start_of(name)).map(drop)
            }
            _ => Ok(()),
        })
    }
}

impl Checked for proto::WatchHeadsRequest {
    const IDS: [u32; 2] = [0, 0];

    #[expect(private_interfaces, reason = "only this module's services use it")]
    fn check(_message: &[u8]) -> Result<(), RequestError> {
        Ok(())
    }
}

/// Refuses a name that is too long for its start alone; shorter ones are parsed later.
fn check_task(name: &[u8]) -> Result<(), RequestError> {
    if name.len() > MAX_NAME_BYTES {
        parse_task("tasks", &start_of(name)).map(drop)
    } else {
        Ok(())
    }
}

fn check_image(image: &[u8]) -> Result<(), RequestError> {
    let frames = Fields::of(image).filter_map(|field| match field {
        (2, Value::Delimited(frame)) => Some(frame),
        _ => None,
    });
    for field in frames.flat_map(Fields::of) {
        if let (5, Value::Delimited(format)) = field
            && format.len() > MAX_NAME_BYTES
        {
            start_of(format).parse::<PixelFormat>()?;
        }
    }
    Ok(())
}

/// Returns the start of a text for a message, with more characters than any valid name has.
fn start_of(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(MAX_NAME_BYTES)]).into_owned()
}

#[cfg(test)]
mod tests;
