//! Accepts connections: so many at a time, and without spinning where accepting fails.

use std::{future::Future, io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::transport::server::Connected;

use super::connection::{Connection, Timers};

/// Pause after accepting failed, as when the process has no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// What accepts connections: a TCP listener, or a test's own.
pub(super) trait Accept: Send + Sync + 'static {
    type Io: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static;

    fn accept(&self) -> impl Future<Output = io::Result<Self::Io>> + Send;
}

impl Accept for TcpListener {
    type Io = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        let (stream, _peer) = self.accept().await?;
        // Answers are small and must not wait for more. It fails only if the client has left.
        let _left = stream.set_nodelay(true);
        Ok(stream)
    }
}

/// Returns the connections in the order in which they came.
///
/// Guarantees:
/// 1. At most `most` connections are open; more wait in the backlog of the system.
/// 2. A failure to accept ends nothing and spins nothing: the next attempt is after a pause.
/// 3. Failures in a row are one warning, and so is the time without a free place.
/// 4. What accepts is closed as soon as the stream is dropped.
pub(super) fn connections<A: Accept>(
    acceptor: A,
    most: usize,
    timers: Timers,
) -> impl Stream<Item = io::Result<Connection<A::Io>>> {
    let (accepted, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let listener = Listener { acceptor, most, places: Arc::new(Semaphore::new(most)) };
        let accepting = async {
            loop {
                let place = listener.free_place().await;
                let io = listener.next().await;
                if accepted.send(Ok(Connection::new(io, place, timers))).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = accepted.closed() => {}
            () = accepting => {}
        }
    });
    ReceiverStream::new(receiver)
}

#[derive(Debug)]
struct Listener<A> {
    acceptor: A,
    most: usize,
    places: Arc<Semaphore>,
}

impl<A: Accept> Listener<A> {
    async fn free_place(&self) -> OwnedSemaphorePermit {
        if self.places.available_permits() == 0 {
            let most = self.most;
            tracing::warn!(
                "{most} connections are open, more wait until one ends; raise --max-connections \
                 if that is too few"
            );
        }
        match self.places.clone().acquire_owned().await {
            Ok(place) => place,
            // It is never closed.
            Err(_) => std::future::pending().await,
        }
    }

    async fn next(&self) -> A::Io {
        let mut fails = false;
        loop {
            match self.acceptor.accept().await {
                Ok(io) => {
                    if fails {
                        tracing::info!("connections are accepted again");
                    }
                    return io;
                }
                // The client left before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    if !fails {
                        tracing::warn!(
                            %error,
                            "cannot accept connections, trying again every {PAUSE:?}; if \
                             descriptors ran out, raise the limit (ulimit -n)"
                        );
                    }
                    fails = true;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Instant,
    };

    use tokio::io::{DuplexStream, duplex};
    use tokio_stream::StreamExt as _;

    use super::*;

    const TIMERS: Timers = {
        let long = Duration::from_secs(3600);
        Timers { handshake: long, silence: long, stalled_write: long, life: long }
    };

    /// Fails so many times before each connection, with an error of the system.
    struct Failing {
        error: i32,
        failures: usize,
        calls: Arc<AtomicUsize>,
    }

    impl Accept for Failing {
        type Io = DuplexStream;

        async fn accept(&self) -> io::Result<DuplexStream> {
            let call = self.calls.fetch_add(1, Ordering::SeqCst);
            if call % (self.failures + 1) < self.failures {
                return Err(io::Error::from_raw_os_error(self.error));
            }
            Ok(duplex(1).0)
        }
    }

    fn failing(errno: rustix::io::Errno, failures: usize) -> (Failing, Arc<AtomicUsize>) {
        let calls = Arc::new(AtomicUsize::new(0));
        (Failing { error: errno.raw_os_error(), failures, calls: calls.clone() }, calls)
    }

    #[tokio::test]
    async fn running_out_of_descriptors_pauses_and_ends_nothing() {
        let (acceptor, calls) = failing(rustix::io::Errno::MFILE, 2);
        let begun = Instant::now();
        let mut incoming = std::pin::pin!(connections(acceptor, 1, TIMERS));
        let _first = incoming.next().await.unwrap().unwrap();
        assert!(begun.elapsed() >= 2 * PAUSE, "two failures, each with a pause");
        assert_eq!(calls.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn client_that_left_early_costs_no_pause() {
        let (acceptor, calls) = failing(rustix::io::Errno::CONNABORTED, 1000);
        let begun = Instant::now();
        let mut incoming = std::pin::pin!(connections(acceptor, 1, TIMERS));
        let _first = incoming.next().await.unwrap().unwrap();
        assert_eq!(calls.load(Ordering::SeqCst), 1001);
        assert!(begun.elapsed() < 100 * PAUSE, "{:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn no_connection_is_accepted_without_a_free_place() {
        let (acceptor, calls) = failing(rustix::io::Errno::MFILE, 0);
        let mut incoming = std::pin::pin!(connections(acceptor, 2, TIMERS));
        let first = incoming.next().await.unwrap().unwrap();
        let _second = incoming.next().await.unwrap().unwrap();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(calls.load(Ordering::SeqCst), 2);
        drop(first);
        let _third = incoming.next().await.unwrap().unwrap();
        assert_eq!(calls.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn acceptor_is_closed_when_the_stream_is_dropped() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(connections(listener, 1, TIMERS));
        // The port is free once the task has ended.
        while TcpListener::bind(address).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
}
