//! The transfer itself: HTTP range requests until the part is as long as the server says.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
    thread,
    time::Duration,
};

use ureq::{
    Agent, Body, Proxy,
    http::{HeaderMap, Response, StatusCode, header},
};

use super::{FetchError, Progress, file_error};
use crate::base::checkpoint::MAX_CHECKPOINT_BYTES;

/// Attempts of one call before it gives up.
const ATTEMPTS: usize = 5;

/// Proxy, timeouts and retry pause of the transfer.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) proxy: Option<Proxy>,
    /// Limits name resolution and then, separately, connecting.
    pub(super) connect_timeout: Duration,
    /// How long the server may send nothing.
    pub(super) silence_timeout: Duration,
    /// Pause before the first retry; doubles with each.
    pub(super) pause: Duration,
}

impl Network {
    pub(super) fn from_env() -> Self {
        Self {
            proxy: Proxy::try_from_env(),
            connect_timeout: Duration::from_secs(10),
            silence_timeout: Duration::from_secs(30),
            pause: Duration::from_secs(1),
        }
    }

    fn agent(&self) -> Agent {
        Agent::config_builder()
            .user_agent(concat!("turret/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .proxy(self.proxy.clone())
            .timeout_resolve(Some(self.connect_timeout))
            .timeout_connect(Some(self.connect_timeout))
            .timeout_recv_response(Some(self.silence_timeout))
            .timeout_per_read(Some(self.silence_timeout))
            .build()
            .into()
    }
}

/// A file in transfer; the part's handle stands where the next byte goes.
pub(super) struct Download<'a> {
    pub(super) url: &'a str,
    pub(super) file_name: &'a str,
    pub(super) part: &'a mut File,
    pub(super) part_path: &'a Path,
    pub(super) progress: &'a mut dyn FnMut(Progress),
}

impl Download<'_> {
    /// Fetches what is missing; retries when the connection is lost or the server is unavailable.
    ///
    /// A server that was never reached is not retried.
    pub(super) fn run(&mut self, network: &Network) -> Result<(), FetchError> {
        let agent = network.agent();
        let mut pause = network.pause;
        let mut was_reached = false;
        for _ in 1..ATTEMPTS {
            match self.attempt(&agent, &mut was_reached) {
                Err(error) if error.is_transient() => thread::sleep(pause),
                result => return result,
            }
            pause *= 2;
        }
        self.attempt(&agent, &mut was_reached)
    }

    fn attempt(&mut self, agent: &Agent, was_reached: &mut bool) -> Result<(), FetchError> {
        let offset = self.part.seek(SeekFrom::End(0)).map_err(file_error(self.part_path))?;
        let mut request = agent.get(self.url);
        if offset > 0 {
            request = request.header(header::RANGE, format!("bytes={offset}-"));
        }
        let response = match request.call() {
            Ok(response) => response,
            Err(error) if *was_reached => {
                return Err(self.interrupted(offset, None, error.into_io()));
            }
            Err(error) => {
                let (url, file) = (self.url.to_owned(), self.file_name.to_owned());
                return Err(FetchError::Unreachable { url, file, source: error.into_io() });
            }
        };
        *was_reached = true;
        match response.status() {
            StatusCode::OK => {
                self.start_over()?;
                let total = content_length(response.headers());
                self.receive(response, 0, total)
            }
            StatusCode::PARTIAL_CONTENT => match content_range(response.headers()) {
                Some((start, total)) if start == offset => self.receive(response, offset, total),
                Some(_) | None => {
                    self.start_over()?;
                    let source = io::Error::other(
                        "the server sent a different range from the one requested",
                    );
                    Err(self.interrupted(0, None, source))
                }
            },
            // The server has nothing beyond the part; the digest decides whether that is the file.
            StatusCode::RANGE_NOT_SATISFIABLE => Ok(()),
            status => Err(FetchError::Status {
                url: self.url.to_owned(),
                file: self.file_name.to_owned(),
                status: status.as_u16(),
            }),
        }
    }

    fn start_over(&mut self) -> Result<(), FetchError> {
        self.part
            .set_len(0)
            .and_then(|()| self.part.seek(SeekFrom::Start(0)))
            .map(|_| ())
            .map_err(file_error(self.part_path))
    }

    fn receive(
        &mut self,
        response: Response<Body>,
        mut received: u64,
        total: Option<u64>,
    ) -> Result<(), FetchError> {
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 16];
        loop {
            (self.progress)(Progress { received, total });
            let length = match body.read(&mut buffer) {
                Ok(0) if total.is_some_and(|total| received < total) => {
                    return Err(self.interrupted(
                        received,
                        total,
                        io::ErrorKind::UnexpectedEof.into(),
                    ));
                }
                Ok(0) => return Ok(()),
                Ok(length) => length,
                Err(source) => return Err(self.interrupted(received, total, source)),
            };
            received += length as u64;
            if received > MAX_CHECKPOINT_BYTES {
                return Err(FetchError::TooLarge {
                    url: self.url.to_owned(),
                    expected: MAX_CHECKPOINT_BYTES,
                });
            }
            let new = buffer.get(..length).unwrap_or_default();
            self.part.write_all(new).map_err(file_error(self.part_path))?;
        }
    }

    fn interrupted(&self, received: u64, expected: Option<u64>, source: io::Error) -> FetchError {
        FetchError::Interrupted { url: self.url.to_owned(), received, expected, source }
    }
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Parses the first byte and total of `bytes <first>-<last>/<total or *>` (RFC 9110, 14.4).
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    Some((first.parse().ok()?, total.parse().ok()))
}
