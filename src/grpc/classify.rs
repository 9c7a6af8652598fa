//! `turret.v1.Classifier`: one request, or many in flight on one stream.

use std::{pin::Pin, sync::Arc, time::Instant};

use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    Edge,
    deadline::deadline,
    observe::Observed,
    proto::{self, classifier_server::Classifier},
    request::{self, Ask, ClassifyError},
    response::{self, Echo},
    status::to_status,
    stream,
};
use crate::engine;

#[derive(Debug, Clone)]
pub struct ClassifierService {
    edge: Arc<Edge>,
}

impl ClassifierService {
    pub fn new(edge: Arc<Edge>) -> Self {
        Self { edge }
    }
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Classifier for ClassifierService {
    type ClassifyStreamStream = Responses<proto::ClassifyResponse>;
    type EmbedStream = Responses<proto::EmbedResponse>;

    async fn classify(
        &self,
        request: Request<proto::ClassifyRequest>,
    ) -> Result<Response<proto::ClassifyResponse>, Status> {
        let arrived = Instant::now();
        let deadline = deadline(request.metadata(), arrived);
        let answer = classify(&self.edge, "Classify", request.into_inner(), arrived, deadline).await;
        answer.map(Response::new).map_err(|error| to_status(&error))
    }

    async fn classify_stream(
        &self,
        request: Request<Streaming<proto::ClassifyRequest>>,
    ) -> Result<Response<Self::ClassifyStreamStream>, Status> {
        let deadline = deadline(request.metadata(), Instant::now());
        let responses = stream::classify_all(self.edge.clone(), request.into_inner(), deadline);
        Ok(Response::new(Box::pin(responses)))
    }

    async fn embed(
        &self,
        _request: Request<Streaming<proto::EmbedRequest>>,
    ) -> Result<Response<Self::EmbedStream>, Status> {
        Err(Status::unimplemented("Embed is not built in this version of turret"))
    }
}

/// One request from its arrival to its answer, counted once.
pub(super) async fn classify(
    edge: &Edge,
    rpc: &'static str,
    request: proto::ClassifyRequest,
    arrived: Instant,
    deadline: Option<Instant>,
) -> Result<proto::ClassifyResponse, ClassifyError> {
    let mut observed = Observed::new(edge.metrics.clone(), rpc, arrived);
    let echo = Echo::of(&request);
    match judge(edge, &mut observed, request, deadline).await {
        Ok((ask, answer, base_digest)) => {
            observed.judged(&answer);
            let heads = ask.heads.iter().map(Arc::as_ref);
            let response = response::judged(echo, heads, answer, ask.want, base_digest);
            log_part(&response);
            Ok(response)
        }
        Err(error) => {
            observed.failed(&error);
            Err(error)
        }
    }
}

/// What is asked, without the picture's bytes once they are with the engine.
struct Asked {
    heads: Vec<Arc<crate::head::Head>>,
    want: request::Want,
}

async fn judge(
    edge: &Edge,
    observed: &mut Observed,
    request: proto::ClassifyRequest,
    deadline: Option<Instant>,
) -> Result<(Asked, engine::Answer, String), ClassifyError> {
    let engine = edge.engine.get().ok_or(ClassifyError::Starting)?;
    let heads = request::find_heads(&request.tasks, &edge.registry.snapshot())?;
    observed.heads_found(&heads);
    let Ask { heads, source, roi, want } = request::parse(request, heads)?;
    let slot = engine.try_reserve(heads.clone(), source.len_bytes())?;
    let work = engine::Request { source, roi, deadline, want_features: want.embedding };
    let answer = slot.classify(work).await?;
    Ok((Asked { heads, want }, answer, engine.identity().digest.to_string()))
}

/// A part under the camera has a name: what was said of it can be found again.
fn log_part(response: &proto::ClassifyResponse) {
    if response.part_id.is_empty() {
        return;
    }
    for verdict in &response.verdicts {
        let decision = proto::Decision::try_from(verdict.decision).unwrap_or_default().as_str_name();
        tracing::info!(
            part_id = %response.part_id,
            result_id = %response.result_id,
            task = %verdict.task,
            decision,
            label = %verdict.label,
            head_version = verdict.head_version,
            "verdict"
        );
    }
}
