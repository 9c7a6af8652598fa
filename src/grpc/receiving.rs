//! The bytes of requests that are being received, bounded over all connections.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use axum::{body::Body, extract::Request};
use bytes::Bytes;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio_stream::Stream;
use tonic::Status;

use super::{CLASSIFIER_SERVICE, request::RequestError, status::to_status};

/// Bytes that one permit of the budget stands for.
const UNIT: usize = 1 << 10;
/// How long a stream waits for room before it is ended.
const STREAM_WAIT: Duration = Duration::from_secs(10);
/// Bytes before each message: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// When the headers of a request arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrived(pub(super) Instant);

/// Bounds the memory of messages until they are read.
///
/// Guarantees:
/// 1. What has come of a message is counted before it is passed on; a length that is only announced
///    takes no room from others.
/// 2. A request holds the room of its largest message until it ends, as its buffer does.
/// 3. Without room a single request is refused at once, and a stream is not read for at most 10 s.
/// 4. Health and reflection take no room.
#[derive(Debug, Clone)]
pub(super) struct ReceiveBudget {
    room: Arc<Semaphore>,
    limit: usize,
    max_message: usize,
}

impl ReceiveBudget {
    pub(super) fn new(limit: usize, max_message: usize) -> Self {
        // The largest message and what it unpacks to always fit.
        let limit = limit.max(2 * max_message).min(u32::MAX as usize * UNIT);
        Self { room: Arc::new(Semaphore::new(limit / UNIT)), limit, max_message }
    }

    /// Stamps the request's arrival and counts what comes of its body.
    pub(super) fn admit(&self, mut request: Request) -> Request {
        request.extensions_mut().insert(Arrived(Instant::now()));
        let method = request
            .uri()
            .path()
            .strip_prefix('/')
            .and_then(|path| path.strip_prefix(CLASSIFIER_SERVICE)?.strip_prefix('/'));
        let wait = match method {
            None => return request,
            Some("Classify") => Duration::ZERO,
            Some(_) => STREAM_WAIT,
        };
        let budget = self.clone();
        request.map(|body| {
            let frames = body.into_data_stream();
            Body::from_stream(CountedBody {
                frames,
                budget,
                wait,
                position: Position::default(),
                held: None,
                waiting: None,
            })
        })
    }

    /// Waits for room of so many more bytes.
    async fn reserve(self, bytes: usize, wait: Duration) -> Result<OwnedSemaphorePermit, Status> {
        let full = || {
            let in_use = self.limit - self.room.available_permits() * UNIT;
            to_status(&RequestError::ReceivingFull { needed: bytes, in_use, limit: self.limit })
        };
        let permits = u32::try_from(bytes.div_ceil(UNIT)).map_err(|_| full())?;
        if let Ok(held) = self.room.clone().try_acquire_many_owned(permits) {
            return Ok(held);
        }
        if wait.is_zero() {
            return Err(full());
        }
        let room = self.room.clone().acquire_many_owned(permits);
        match tokio::time::timeout(wait, room).await {
            Ok(Ok(held)) => Ok(held),
            Ok(Err(AcquireError { .. })) | Err(_) => Err(full()),
        }
    }
}

type Reserving = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, Status>> + Send>>;

/// The frames of a body, each passed on once there is room for it.
struct CountedBody<S> {
    frames: S,
    budget: ReceiveBudget,
    wait: Duration,
    position: Position,
    held: Option<OwnedSemaphorePermit>,
    waiting: Option<(Bytes, Reserving)>,
}

impl<S> CountedBody<S> {
    fn held_bytes(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.num_permits() * UNIT)
    }
}

impl<S, E> Stream for CountedBody<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: std::error::Error + Send + Sync + 'static,
{
    type Item = Result<Bytes, axum::BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            if let Some((frame, reserving)) = &mut this.waiting {
                let more = match ready!(reserving.as_mut().poll(cx)) {
                    Ok(more) => more,
                    Err(status) => return Poll::Ready(Some(Err(status.into()))),
                };
                let frame = std::mem::take(frame);
                this.waiting = None;
                match &mut this.held {
                    Some(held) => held.merge(more),
                    None => this.held = Some(more),
                }
                return Poll::Ready(Some(Ok(frame)));
            }
            let frame = match ready!(Pin::new(&mut this.frames).poll_next(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                None => return Poll::Ready(None),
            };
            let needed = this.position.advance(&frame, this.budget.max_message);
            let more = needed.saturating_sub(this.held_bytes());
            if more == 0 {
                return Poll::Ready(Some(Ok(frame)));
            }
            this.waiting = Some((frame, Box::pin(this.budget.clone().reserve(more, this.wait))));
        }
    }
}

/// Where in a body of messages its reader is.
#[derive(Debug, Default)]
struct Position {
    prefix: [u8; PREFIX_BYTES],
    /// Bytes of the prefix that have come.
    prefixed: usize,
    /// Bytes of the message that have come, and that are still to come.
    come: usize,
    to_come: usize,
}

impl Position {
    /// Moves over a frame and returns the most bytes that a message in it needs.
    ///
    /// A compressed message also needs the room to unpack it, once it has come.
    fn advance(&mut self, mut frame: &[u8], max_message: usize) -> usize {
        let mut needed = 0;
        while !frame.is_empty() {
            if self.prefixed < PREFIX_BYTES {
                self.prefix[self.prefixed] = frame[0];
                self.prefixed += 1;
                frame = &frame[1..];
                if self.prefixed < PREFIX_BYTES {
                    continue;
                }
                let [_, length @ ..] = self.prefix;
                self.come = 0;
                // A longer message ends the stream before it is buffered.
                self.to_come = u32::from_be_bytes(length) as usize;
            }
            let now = self.to_come.min(frame.len());
            frame = &frame[now..];
            self.come += now;
            self.to_come -= now;
            let complete = self.to_come == 0;
            let unpacked = if complete && self.prefix[0] != 0 { max_message } else { 0 };
            needed = needed.max(self.come + unpacked);
            if complete {
                self.prefixed = 0;
            }
        }
        needed
    }
}

#[cfg(test)]
mod tests;
