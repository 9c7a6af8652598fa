//! `turret.v1.Classifier`: single requests and streams, each from arrival to answer.

use std::{pin::Pin, sync::Arc, time::Instant};

use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    ServerState,
    deadline::deadline,
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
use crate::{engine, metrics::Rpc};

#[derive(Debug, Clone)]
pub struct ClassifierService {
    state: Arc<ServerState>,
}

impl ClassifierService {
    pub fn new(state: Arc<ServerState>) -> Self {
        Self { state }
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
        let deadline = deadline(request.metadata(), Instant::now());
        let answer = move |state, request| answer_in_stream(state, request, deadline);
        let responses = stream::answer_each(self.state.clone(), request.into_inner(), answer);
        Ok(Response::new(Box::pin(responses)))
    }

    async fn embed(
        &self,
        request: Request<Streaming<Received<proto::EmbedRequest>>>,
    ) -> Result<Response<Self::EmbedStream>, Status> {
        let responses = stream::answer_each(self.state.clone(), request.into_inner(), embed_one);
        Ok(Response::new(Box::pin(responses)))
    }
}

/// Answers one request and counts it once, however it ends.
pub(super) async fn respond(
    state: &ServerState,
    rpc: Rpc,
    received: Received<proto::ClassifyRequest>,
    arrived: Instant,
    deadline: Option<Instant>,
) -> Result<proto::ClassifyResponse, RequestError> {
    let mut metrics = RequestMetrics::new(state.metrics.clone(), rpc, arrived);
    let response = judge(state, &mut metrics, received, deadline).await;
    if let Err(error) = &response {
        metrics.failed(error);
    }
    response
}

async fn judge(
    state: &ServerState,
    metrics: &mut RequestMetrics,
    received: Received<proto::ClassifyRequest>,
    deadline: Option<Instant>,
) -> Result<proto::ClassifyResponse, RequestError> {
    let engine = state.engine.get().ok_or(RequestError::Starting)?;
    let Received { echo, request, bytes } = received;
    let request = request?;
    let heads = request::find_heads(&request.tasks, &state.registry.snapshot())?;
    metrics.heads_found(&heads);
    let ParsedRequest { source, roi, extras } = request::parse(request, &heads)?;
    let reservation = engine.try_reserve(heads.clone(), bytes, deadline)?;
    let work = engine::Request { source, roi, want_features: extras.embedding };
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
