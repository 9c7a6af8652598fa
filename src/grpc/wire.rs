//! Walks over a message in protobuf's wire format without building anything.

use bytes::Buf as _;
use prost::encoding::{WireType, decode_key, decode_varint};

/// The value of a field, as far as the wire tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A string, bytes, a message or packed numbers.
    Delimited(&'a [u8]),
    Number,
}

/// The fields of a message in their order, without those inside groups.
///
/// It reads keys with prost's own functions, and ends where prost refuses the message.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) const fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn read(&mut self) -> Option<(u32, Value<'a>)> {
        let mut groups = 0_usize;
        while self.rest.has_remaining() {
            let (number, kind) = decode_key(&mut self.rest).ok()?;
            let value = match kind {
                WireType::Varint => {
                    decode_varint(&mut self.rest).ok()?;
                    Value::Number
                }
                WireType::ThirtyTwoBit => self.skip(4)?,
                WireType::SixtyFourBit => self.skip(8)?,
                WireType::LengthDelimited => {
                    let length = usize::try_from(decode_varint(&mut self.rest).ok()?).ok()?;
                    let (value, rest) = self.rest.split_at_checked(length)?;
                    self.rest = rest;
                    Value::Delimited(value)
                }
                WireType::StartGroup => {
                    groups += 1;
                    continue;
                }
                WireType::EndGroup => {
                    groups = groups.checked_sub(1)?;
                    continue;
                }
            };
            if groups == 0 {
                return Some((number, value));
            }
        }
        None
    }

    fn skip(&mut self, bytes: usize) -> Option<Value<'a>> {
        self.rest = self.rest.get(bytes..)?;
        Some(Value::Number)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let field = self.read();
        if field.is_none() {
            // What follows a mistake is not read as if it were a field.
            self.rest = &[];
        }
        field
    }
}

/// Counts packed numbers: each ends with its only byte below 128.
pub(super) fn packed_numbers(packed: &[u8]) -> usize {
    packed.iter().filter(|byte| **byte < 128).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::grpc::proto::ClassifyRequest;

    /// For any bytes: what prost builds has no more elements than the walk counted.
    fn walk_counts_all_that_prost_builds(message: &[u8]) {
        let Ok(request) = ClassifyRequest::decode(message) else {
            // It ends, which is all that matters.
            let _fields = Fields::of(message).count();
            return;
        };
        let (mut tasks, mut extras) = (0, 0);
        for field in Fields::of(message) {
            match field {
                (1, Value::Delimited(_)) => tasks += 1,
                (7, Value::Delimited(packed)) => extras += packed_numbers(packed),
                (7, Value::Number) => extras += 1,
                _ => {}
            }
        }
        assert_eq!((tasks, extras), (request.tasks.len(), request.want.len()));
    }

    /// Returns pieces of messages that are often valid together.
    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(vec![0x0a, 0]),
            Just(vec![0x0a, 1, b'a']),
            Just(vec![0x38, 1]),
            Just(vec![0x3a, 3, 1, 0x81, 1]),
            // An unknown group (15) with a name of a task inside.
            Just(vec![0x7b, 0x0a, 0, 0x7c]),
            Just(vec![0x1a, 2, b'i', b'd']),
            Just(vec![0x75, 1, 2, 3, 4]),
            proptest::collection::vec(any::<u8>(), 0..4),
        ];
        proptest::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn walk_counts_all_that_prost_builds_of_any_bytes(message in pieces()) {
            walk_counts_all_that_prost_builds(&message);
        }
    }

    #[test]
    fn fields_inside_unknown_groups_are_not_counted() {
        let message = [0x7b, 0x0a, 0, 0x7c, 0x0a, 1, b'a'];
        assert_eq!(Fields::of(&message).collect::<Vec<_>>(), [(1, Value::Delimited(b"a"))]);
    }

    #[test]
    fn walk_ends_at_the_first_mistake() {
        for broken in [&[0x0a, 9, b'a'][..], &[0x0f], &[0x00, 0x0a, 0], &[0x7c, 0x0a, 0], &[0x75]] {
            assert_eq!(Fields::of(broken).count(), 0, "{broken:?}");
        }
    }
}
