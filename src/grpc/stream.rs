//! Streams of requests: answers come as they are ready.

use std::{future::Future, sync::Arc, time::Instant};

use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Status, Streaming};

use super::{
    ServerState,
    classify::respond,
    proto,
    response::{Echo, not_judged},
};
use crate::metrics::Rpc;

/// Requests of one stream in flight; with more the reading pauses and the client's own window fills.
const IN_FLIGHT: usize = 64;

/// Answers every request of the stream, each by itself: one that fails is answered, not the end of the others.
///
/// The stream ends when the client has sent its last request and has all answers, when the client goes away, or, with
/// the server draining, when what was read is answered.
pub(super) fn answer_each<Q, A, F>(
    state: Arc<ServerState>,
    requests: Streaming<Q>,
    answer: impl Fn(Arc<ServerState>, Q) -> F + Send + 'static,
) -> impl Stream<Item = Result<A, Status>>
where
    Q: Send + 'static,
    A: Send + 'static,
    F: Future<Output = A> + Send + 'static,
{
    let (responses, receiver) = mpsc::channel(IN_FLIGHT);
    tokio::spawn(read_all(state, requests, answer, responses));
    ReceiverStream::new(receiver)
}

async fn read_all<Q, A, F>(
    state: Arc<ServerState>,
    mut requests: Streaming<Q>,
    answer: impl Fn(Arc<ServerState>, Q) -> F,
    responses: mpsc::Sender<Result<A, Status>>,
) where
    A: Send + 'static,
    F: Future<Output = A> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(IN_FLIGHT));
    // Dropped with this task: requests of a client that went away are cancelled.
    let mut in_flight = JoinSet::new();
    loop {
        let next = async {
            let permit = room.clone().acquire_owned().await;
            (permit, requests.message().await)
        };
        let (permit, message) = tokio::select! {
            () = responses.closed() => return,
            () = state.draining.cancelled() => break,
            next = next => next,
        };
        match message {
            Ok(Some(request)) => {
                let (response, responses) = (answer(state.clone(), request), responses.clone());
                in_flight.spawn(async move {
                    let _permit = permit;
                    // The client went away; there is nobody to tell.
                    let _gone = responses.send(Ok(response.await)).await;
                });
            }
            Ok(None) => break,
            Err(status) => {
                let _gone = responses.send(Err(status)).await;
                return;
            }
        }
        while in_flight.try_join_next().is_some() {}
    }
    tokio::select! {
        () = responses.closed() => {}
        () = async { while in_flight.join_next().await.is_some() {} } => {}
    }
}

pub(super) async fn classify_one(
    state: Arc<ServerState>,
    request: proto::ClassifyRequest,
    deadline: Option<Instant>,
) -> proto::ClassifyResponse {
    let (echo, tasks) = (Echo::of(&request), request.tasks.clone());
    match respond(&state, Rpc::ClassifyStream, request, Instant::now(), deadline).await {
        Ok(response) => response,
        Err(error) => not_judged(echo, tasks, &error),
    }
}
