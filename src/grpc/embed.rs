//! `Embed`: the base's features of pictures, for training with this server's arithmetic.

use std::{sync::Arc, time::Instant};

use super::{
    ServerState,
    deadline::earlier,
    proto,
    received::Received,
    request::{RequestError, picture},
    request_metrics::RequestMetrics,
    response,
};
use crate::{engine::EmbedRequest, image::Preprocess, metrics::Rpc};

/// Returns one picture's features, or why there are none.
pub(super) async fn embed_one(
    state: Arc<ServerState>,
    received: Received<proto::EmbedRequest>,
    stream_deadline: Option<Instant>,
) -> proto::EmbedResponse {
    let arrived = Instant::now();
    let mut metrics = RequestMetrics::new(state.metrics.clone(), Rpc::Embed, arrived);
    let own = received.request.as_ref().map_or(0, |request| request.timeout_ms);
    let deadline = earlier(stream_deadline, arrived, own);
    let request_id = received.echo.request_id.clone();
    match embed(&state, received, deadline).await {
        Ok(response) => {
            metrics.answered();
            proto::EmbedResponse { request_id, ..response }
        }
        Err(error) => {
            metrics.failed(&error);
            proto::EmbedResponse {
                request_id,
                error: Some(response::to_error(&error)),
                ..Default::default()
            }
        }
    }
}

async fn embed(
    state: &ServerState,
    received: Received<proto::EmbedRequest>,
    deadline: Option<Instant>,
) -> Result<proto::EmbedResponse, RequestError> {
    let engine = state.engine.get().ok_or(RequestError::Starting)?;
    let Received { request, bytes, .. } = received;
    let request = request?;
    let preprocess = preprocess(&request.preprocess)?;
    let (source, roi) = picture(request.image, request.roi)?;
    let work = EmbedRequest { source, roi, preprocess, bytes, deadline };
    let embedding = engine.embed(work).await?;
    let identity = engine.identity();
    Ok(proto::EmbedResponse {
        embedding,
        base_digest: identity.digest.to_string(),
        gap_width: u32::try_from(engine.widths().gap).unwrap_or(u32::MAX),
        arithmetic: engine.arithmetic().to_owned(),
        architecture: identity.architecture.clone(),
        ..Default::default()
    })
}

fn preprocess(json: &str) -> Result<Preprocess, RequestError> {
    if json.is_empty() {
        return Ok(Preprocess::default());
    }
    let preprocess: Preprocess = serde_json::from_str(json)
        .map_err(|error| RequestError::Preprocess { detail: error.to_string() })?;
    preprocess.validate()?;
    Ok(preprocess)
}
