//! Streams of requests, each answered as soon as it is ready.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::timeout,
};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Status, Streaming};

use super::{ServerState, status::to_status};
use crate::engine::EngineError;

/// Maximum requests in flight on a stream to classify; beyond it, flow control stops the client.
pub(super) const IN_FLIGHT: usize = 64;

/// While the server drains, what was sent before has arrived once nothing comes for so long.
const QUIET: Duration = Duration::from_millis(50);

/// Answers every request of the stream on its own, at most `in_flight` at a time.
///
/// A failure does not end the others.
///
/// The stream ends when the client has sent its last request and has all answers, or when the
/// client leaves. While the server drains, the requests that were sent before are answered, at most
/// [`IN_FLIGHT`] that are not read yet; then UNAVAILABLE ends the stream.
pub(super) fn answer_each<Q, A, F>(
    state: Arc<ServerState>,
    requests: Streaming<Q>,
    in_flight: usize,
    answer: impl Fn(Arc<ServerState>, Q) -> F + Send + 'static,
) -> impl Stream<Item = Result<A, Status>>
where
    Q: Send + 'static,
    A: Send + 'static,
    F: Future<Output = A> + Send + 'static,
{
    let (responses, receiver) = mpsc::channel(in_flight);
    let streams = state.streams.clone();
    streams.spawn(read_all(state, requests, in_flight, answer, responses));
    ReceiverStream::new(receiver)
}

async fn read_all<Q, A, F>(
    state: Arc<ServerState>,
    mut requests: Streaming<Q>,
    most_in_flight: usize,
    answer: impl Fn(Arc<ServerState>, Q) -> F,
    responses: mpsc::Sender<Result<A, Status>>,
) where
    A: Send + 'static,
    F: Future<Output = A> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(most_in_flight));
    // Dropped with this task, which cancels the requests of a client that left.
    let mut in_flight = JoinSet::new();
    let mut read_while_draining = 0;
    let ends_by_draining = loop {
        let draining = state.draining.is_cancelled();
        if draining && read_while_draining == IN_FLIGHT {
            break true;
        }
        let next = async {
            let permit = room.clone().acquire_owned().await;
            let message = requests.message();
            let message = if draining { timeout(QUIET, message).await } else { Ok(message.await) };
            (permit, message)
        };
        let (permit, message) = tokio::select! {
            () = responses.closed() => return,
            () = state.draining.cancelled(), if !draining => continue,
            next = next => next,
        };
        let Ok(message) = message else { break true };
        read_while_draining += usize::from(draining);
        match message {
            Ok(Some(request)) => {
                let (response, responses) = (answer(state.clone(), request), responses.clone());
                in_flight.spawn(async move {
                    let _permit = permit;
                    // Fails if the client left.
                    let _gone = responses.send(Ok(response.await)).await;
                });
            }
            Ok(None) => break false,
            Err(status) => {
                let _gone = responses.send(Err(status)).await;
                return;
            }
        }
        while in_flight.try_join_next().is_some() {}
    };
    tokio::select! {
        () = responses.closed() => return,
        () = async { while in_flight.join_next().await.is_some() {} } => {}
    }
    if ends_by_draining {
        let _gone = responses.send(Err(to_status(&EngineError::Draining))).await;
    }
}
