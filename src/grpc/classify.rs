//! `turret.v1.Classifier`: single requests and streams, each from arrival to answer.

use std::{mem::take, pin::Pin, sync::Arc, time::Instant};

use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    ServerState,
    deadline::{deadline, earlier},
    embed::embed_one,
    proto,
    received::Received,
    receiving::Arrived,
    request::{self, ParsedRequest, RequestError},
    request_metrics::RequestMetrics,
    response::{self, not_judged},
    services::classifier_server::Classifier,
    status::to_status,
    stream,
};
use crate::{
    engine::{self, EngineError},
    metrics::Rpc,
};

#[derive(Debug, Clone)]
pub struct ClassifierService {
    state: Arc<ServerState>,
}

impl ClassifierService {
    pub fn new(state: Arc<ServerState>) -> Self {
        Self { state }
    }

    /// Refuses a stream that begins once the server drains.
    fn refuse_while_draining(&self) -> Result<(), Status> {
        if self.state.draining.is_cancelled() {
            return Err(to_status(&EngineError::Draining));
        }
        Ok(())
    }
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Classifier for ClassifierService {
    type ClassifyStreamStream = Responses<proto::ClassifyResponse>;
    type EmbedStream = Responses<proto::EmbedResponse>;

    async fn classify(
        &self,
        request: Request<Received<proto::ClassifyRequest>>,
    ) -> Result<Response<proto::ClassifyResponse>, Status> {
        let stamped = request.extensions().get::<Arrived>();
        let arrived = stamped.map_or_else(Instant::now, |stamp| stamp.0);
        let deadline = deadline(request.metadata(), arrived);
        let answer =
            respond(&self.state, Rpc::Classify, request.into_inner(), arrived, deadline).await;
        answer.map(Response::new).map_err(|error| to_status(&error))
    }

    async fn classify_stream(
        &self,
        request: Request<Streaming<Received<proto::ClassifyRequest>>>,
    ) -> Result<Response<Self::ClassifyStreamStream>, Status> {
        self.refuse_while_draining()?;
        let deadline = deadline(request.metadata(), Instant::now());
        let answer = move |state, request| answer_in_stream(state, request, deadline);
        let (state, requests) = (self.state.clone(), request.into_inner());
        let responses = stream::answer_each(state, requests, stream::IN_FLIGHT, answer);
        Ok(Response::new(Box::pin(responses)))
    }

    async fn embed(
        &self,
        request: Request<Streaming<Received<proto::EmbedRequest>>>,
    ) -> Result<Response<Self::EmbedStream>, Status> {
        self.refuse_while_draining()?;
        let deadline = deadline(request.metadata(), Instant::now());
        let answer = move |state, request| embed_one(state, request, deadline);
        // More of one stream would only wait, with their pictures in memory.
        let in_flight = engine::MOST_EMBEDDING;
        let (state, requests) = (self.state.clone(), request.into_inner());
        let responses = stream::answer_each(state, requests, in_flight, answer);
        Ok(Response::new(Box::pin(responses)))
    }
}

/// Answers one request and counts it once, however it ends.
pub(super) async fn respond(
    state: &ServerState,
    rpc: Rpc,
    mut received: Received<proto::ClassifyRequest>,
    arrived: Instant,
    deadline: Option<Instant>,
) -> Result<proto::ClassifyResponse, RequestError> {
    let mut metrics = RequestMetrics::new(state.metrics.clone(), rpc, arrived);
    let own = received.request.as_ref().map_or(0, |request| request.timeout_ms);
    let deadline = earlier(deadline, arrived, own);
    let part_id = received.echo.part_id.clone();
    // Kept here, because a part that is not judged is logged with its tasks.
    let tasks = received.request.as_mut().map(|request| take(&mut request.tasks));
    let tasks = tasks.unwrap_or_default();
    let response = judge(state, rpc, &mut metrics, received, &tasks, deadline).await;
    if let Err(error) = &response {
        metrics.failed(error);
        state.verdict_log.log_failure(&part_id, &tasks, error);
    }
    response
}

async fn judge(
    state: &ServerState,
    rpc: Rpc,
    metrics: &mut RequestMetrics,
    received: Received<proto::ClassifyRequest>,
    tasks: &[String],
    deadline: Option<Instant>,
) -> Result<proto::ClassifyResponse, RequestError> {
    let engine = state.engine.get().ok_or(RequestError::Starting)?;
    let Received { echo, request, bytes } = received;
    let request = request?;
    let table = state.registry.snapshot();
    let heads = match request::find_heads(tasks, &table) {
        Err(RequestError::UnknownTask { task, .. }) => {
            return Err(state.suggestions.unknown_task(task, table).await);
        }
        found => found?,
    };
    drop(table);
    metrics.heads_found(&heads);
    let ParsedRequest { source, roi, extras } = request::parse(request, &heads)?;
    let reservation = match rpc {
        // A stream reads only what was sent before, once the server drains.
        Rpc::ClassifyStream => engine.try_reserve_sent_before(heads.clone(), bytes, deadline)?,
        Rpc::Classify | Rpc::Embed | Rpc::ListHeads | Rpc::WatchHeads => {
            engine.try_reserve(heads.clone(), bytes, deadline)?
        }
    };
    let work =
        engine::Request { source, roi, want_features: extras.embedding || extras.shared_embedding };
    let answer = reservation.classify(work).await?;
    metrics.judged(&answer);
    let base_digest = engine.identity().digest.to_string();
    let response = response::judged(echo, &heads, answer, extras, base_digest);
    state.verdict_log.log(&response);
    Ok(response)
}

async fn answer_in_stream(
    state: Arc<ServerState>,
    received: Received<proto::ClassifyRequest>,
    deadline: Option<Instant>,
) -> proto::ClassifyResponse {
    let echo = received.echo.clone();
    let only_task = received.request.as_ref().ok().and_then(|request| match &request.tasks[..] {
        [task] => Some(task.clone()),
        _ => None,
    });
    match respond(&state, Rpc::ClassifyStream, received, Instant::now(), deadline).await {
        Ok(response) => response,
        Err(error) => not_judged(echo, only_task, &error),
    }
}
