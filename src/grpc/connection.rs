//! One accepted connection: its place, and the timers that end it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::OwnedSemaphorePermit,
    time::{Instant, Sleep, sleep_until},
};
use tonic::transport::server::Connected;

/// Bytes of the preface with which a client begins HTTP/2, and of its first frame's header.
const HANDSHAKE_BYTES: usize = 24 + 9;

/// How long a connection may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timers {
    /// Until the client has begun to speak HTTP/2.
    pub(super) handshake: Duration,
    /// Without a byte from the client. One that lives answers pings far more often.
    pub(super) silence: Duration,
    /// Without a byte that the client takes, while there are some to send.
    pub(super) stalled_write: Duration,
    /// In all; the connection is asked to close before.
    pub(super) life: Duration,
}

/// An accepted connection.
///
/// Guarantees:
/// 1. It holds its place among `--max-connections` until it is dropped.
/// 2. It fails with `TimedOut` once a timer runs out, which ends its requests too.
#[derive(Debug)]
pub(super) struct Connection<Io> {
    io: Io,
    _place: OwnedSemaphorePermit,
    timers: Timers,
    /// Bytes received, counted up to [`HANDSHAKE_BYTES`].
    greeted: usize,
    silence: Timer,
    stalled_write: Option<Timer>,
    end_of_life: Timer,
}

impl<Io> Connection<Io> {
    pub(super) fn new(io: Io, place: OwnedSemaphorePermit, timers: Timers) -> Self {
        Self {
            io,
            _place: place,
            timers,
            greeted: 0,
            silence: Timer::new(timers.handshake),
            stalled_write: None,
            end_of_life: Timer::new(timers.life),
        }
    }

    fn received(&mut self, bytes: usize) {
        if self.greeted >= HANDSHAKE_BYTES {
            self.silence.due = Instant::now() + self.timers.silence;
            return;
        }
        self.greeted += bytes;
        if self.greeted >= HANDSHAKE_BYTES {
            self.silence = Timer::new(self.timers.silence);
        }
    }

    /// Fails the write that has been waiting for too long, and forgets the wait when it ends.
    fn written(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled_write = None;
            return written;
        }
        let limit = self.timers.stalled_write;
        let timer = self.stalled_write.get_or_insert_with(|| Timer::new(limit));
        ready!(timer.poll(cx));
        timed_out("the client does not take its answers")
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for Connection<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.end_of_life.poll(cx).is_ready() {
            return timed_out("the connection's time is over");
        }
        let before = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut self.io).poll_read(cx, buffer) {
            self.received(buffer.filled().len() - before);
            return Poll::Ready(read);
        }
        ready!(self.silence.poll(cx));
        timed_out("the client is silent")
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Connection<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.written(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bytes);
        self.written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<Io: Connected> Connected for Connection<Io> {
    type ConnectInfo = Io::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.io.connect_info()
    }
}

fn timed_out<T>(what: &'static str) -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, what)))
}

/// A time that may be put off, but not brought forward, without waking anything.
#[derive(Debug)]
struct Timer {
    due: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl Timer {
    fn new(limit: Duration) -> Self {
        let due = Instant::now() + limit;
        Self { due, sleep: Box::pin(sleep_until(due)) }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            if self.sleep.deadline() >= self.due {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(self.due);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
        sync::Semaphore,
    };

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);
    const SHORT: Duration = Duration::from_millis(20);
    const PATIENT: Timers =
        Timers { handshake: LONG, silence: LONG, stalled_write: LONG, life: LONG };

    fn connection(timers: Timers) -> (Connection<DuplexStream>, DuplexStream, Arc<Semaphore>) {
        let places = Arc::new(Semaphore::new(1));
        let place = places.clone().try_acquire_owned().unwrap();
        let (server, client) = duplex(64);
        (Connection::new(server, place, timers), client, places)
    }

    fn error_of<T>(result: io::Result<T>) -> String {
        let error = result.err().expect("the connection timed out");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        error.to_string()
    }

    #[tokio::test]
    async fn connection_holds_its_place_until_it_is_dropped() {
        let (connection, _client, places) = connection(PATIENT);
        assert_eq!(places.available_permits(), 0);
        drop(connection);
        assert_eq!(places.available_permits(), 1);
    }

    #[tokio::test]
    async fn client_that_dribbles_its_preface_is_cut_off() {
        let (mut server, mut client, _places) = connection(Timers { handshake: SHORT, ..PATIENT });
        client.write_all(&[b'P'; HANDSHAKE_BYTES - 1]).await.unwrap();
        let mut all = Vec::new();
        assert_eq!(error_of(server.read_to_end(&mut all).await), "the client is silent");
        assert_eq!(all.len(), HANDSHAKE_BYTES - 1);
    }

    #[tokio::test]
    async fn client_that_falls_silent_is_cut_off() {
        let (mut server, mut client, _places) = connection(Timers { silence: SHORT, ..PATIENT });
        client.write_all(&[b'P'; HANDSHAKE_BYTES]).await.unwrap();
        let mut all = Vec::new();
        assert_eq!(error_of(server.read_to_end(&mut all).await), "the client is silent");
    }

    #[tokio::test]
    async fn client_that_takes_no_answers_is_cut_off() {
        let (mut server, _client, _places) = connection(Timers { stalled_write: SHORT, ..PATIENT });
        let written = server.write_all(&[0; 65]).await;
        assert_eq!(error_of(written), "the client does not take its answers");
    }

    #[tokio::test]
    async fn connection_ends_with_its_life() {
        let (mut server, _client, _places) = connection(Timers { life: SHORT, ..PATIENT });
        let mut all = Vec::new();
        assert_eq!(error_of(server.read_to_end(&mut all).await), "the connection's time is over");
    }
}
