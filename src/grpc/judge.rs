//! One request, however it came: heads, slot, engine, response.

use std::{sync::Arc, time::Instant};

use super::{
    Edge,
    observe::Observed,
    proto,
    request::{self, Ask, ClassifyError},
    response::{self, Echo},
};
use crate::{engine, head::Head, metrics::Rpc};

/// One request from its arrival to its answer, counted once.
pub(super) async fn classify(
    edge: &Edge,
    rpc: Rpc,
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
    heads: Vec<Arc<Head>>,
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
    let reservation = engine.try_reserve(heads.clone(), source.len_bytes(), deadline)?;
    let work = engine::Request { source, roi, want_features: want.embedding };
    let answer = reservation.classify(work).await?;
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
