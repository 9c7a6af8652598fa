//! `Embed`: the base's features of pictures, for training with this server's arithmetic.

use std::{sync::Arc, time::Instant};

use super::{
    ServerState, proto,
    received::Received,
    request::{RequestError, picture},
    request_metrics::RequestMetrics,
    response,
};
use crate::{
    engine::{Engine, EngineError},
    image::{ImageSource, Preprocess, Roi, decode},
    metrics::Rpc,
};

/// Returns one picture's features, or why there are none.
pub(super) async fn embed_one(
    state: Arc<ServerState>,
    received: Received<proto::EmbedRequest>,
) -> proto::EmbedResponse {
    let mut metrics = RequestMetrics::new(state.metrics.clone(), Rpc::Embed, Instant::now());
    let Received { echo, request, .. } = received;
    let request_id = echo.request_id;
    match embed(&state, request).await {
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
    request: Result<proto::EmbedRequest, RequestError>,
) -> Result<proto::EmbedResponse, RequestError> {
    let engine = state.engine.get().ok_or(RequestError::Starting)?.clone();
    let request = request?;
    let preprocess = preprocess(&request.preprocess)?;
    let (source, roi) = picture(request.image, request.roi)?;
    // The semaphore is never closed.
    let _permit = state.embedding.acquire().await;
    let computed =
        tokio::task::spawn_blocking(move || features(&engine, &source, roi, &preprocess));
    let panicked = |_| EngineError::Failed { detail: "computing features panicked".to_owned() };
    computed.await.map_err(panicked)?
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

/// Decodes the picture and waits for a turn between two batches. Blocks.
fn features(
    engine: &Engine,
    source: &ImageSource,
    roi: Option<Roi>,
    preprocess: &Preprocess,
) -> Result<proto::EmbedResponse, RequestError> {
    let image = preprocess.apply(&decode(source, engine.limits())?, roi)?;
    let identity = engine.identity();
    Ok(proto::EmbedResponse {
        embedding: engine.embed(image)?,
        base_digest: identity.digest.to_string(),
        gap_width: u32::try_from(engine.widths().gap).unwrap_or(u32::MAX),
        arithmetic: engine.arithmetic().to_owned(),
        architecture: identity.architecture.clone(),
        ..Default::default()
    })
}
