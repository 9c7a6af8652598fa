//! The HTTP port for people and machines that look after the server: `/metrics`, `/livez`, `/readyz`.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{sync::watch, task::spawn_blocking, time::MissedTickBehavior};

use crate::{grpc::Edge, metrics::Metrics};

/// Whether the server should get traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The base is not warm, or the first look at the heads is not over.
    Starting,
    Ready,
    Draining,
}

#[derive(Debug, Clone)]
struct Admin {
    edge: Arc<Edge>,
    phase: watch::Receiver<Phase>,
}

pub fn routes(edge: Arc<Edge>, phase: watch::Receiver<Phase>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(Admin { edge, phase })
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let Admin { edge, .. } = admin;
    match spawn_blocking(move || render(&edge)).await {
        Ok(text) => ([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn render(edge: &Edge) -> String {
    let table = edge.registry.snapshot();
    edge.metrics.render(table.heads().map(|head| head.info()))
}

/// Keeps the memory of the metrics flat where nobody scrapes them, until it is aborted.
pub async fn keep_up(metrics: Arc<Metrics>, interval: Duration) {
    let mut timer = tokio::time::interval(interval);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        let metrics = metrics.clone();
        if let Err(error) = spawn_blocking(move || metrics.upkeep()).await {
            tracing::error!(%error, "the upkeep of the metrics failed");
        }
    }
}

/// Fails only when a restart would help: never because of load or of a bad head.
async fn livez(State(admin): State<Admin>) -> (StatusCode, &'static str) {
    match admin.edge.engine.get() {
        Some(engine) if !engine.is_healthy() => {
            (StatusCode::SERVICE_UNAVAILABLE, "the device does not answer\n")
        }
        Some(_) | None => (StatusCode::OK, "alive\n"),
    }
}

async fn readyz(State(admin): State<Admin>) -> (StatusCode, &'static str) {
    let phase = *admin.phase.borrow();
    match phase {
        Phase::Ready => (StatusCode::OK, "ready\n"),
        Phase::Starting => (
            StatusCode::SERVICE_UNAVAILABLE,
            "starting: the base is not warm or the heads were not read yet\n",
        ),
        Phase::Draining => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    }
}

#[cfg(test)]
mod tests {
    use std::{env, process::Command};

    use super::*;
    use crate::metrics::Stage;

    fn resident_bytes() -> u64 {
        procfs::process::Process::myself().unwrap().stat().unwrap().rss * procfs::page_size()
    }

    #[test]
    fn memory_stays_flat_under_observations_that_nobody_scrapes() {
        const ALONE: &str = "TURRET_TEST_ALONE";
        if env::var_os(ALONE).is_none() {
            // In a process of its own, where no other test takes memory.
            let name = "admin::tests::memory_stays_flat_under_observations_that_nobody_scrapes";
            let mut again = Command::new(env::current_exe().unwrap());
            assert!(again.args(["--exact", name]).env(ALONE, "1").status().unwrap().success());
            return;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(observe_and_never_scrape());
    }

    async fn observe_and_never_scrape() {
        const MILLISECONDS: u64 = 1_000;
        const OBSERVATIONS: u64 = 4_000;
        let metrics = Arc::new(Metrics::new().unwrap());
        let upkeep = tokio::spawn(keep_up(metrics.clone(), Duration::from_millis(10)));
        let mut load = tokio::time::interval(Duration::from_millis(1));
        let mut before = 0;
        for millisecond in 0..MILLISECONDS {
            load.tick().await;
            for _ in 0..OBSERVATIONS {
                metrics.observe_stage(Stage::Head, Duration::from_millis(3));
            }
            if millisecond == MILLISECONDS / 10 {
                before = resident_bytes();
            }
        }
        let added = resident_bytes().saturating_sub(before);
        upkeep.abort();
        // An observation takes 16 bytes until it is sorted into its bucket: all would take 58 MB.
        assert!(added < 20 << 20, "{added} bytes were added");
        let text = metrics.render(std::iter::empty());
        let count = format!("{{stage=\"head\"}} {}", MILLISECONDS * OBSERVATIONS);
        assert!(text.contains(&count), "no {count} in\n{text}");
    }
}
