//! The HTTP admin port for operators and orchestrators: `/metrics`, `/livez` and `/readyz`.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{sync::watch, task::spawn_blocking, time::MissedTickBehavior};

use crate::{grpc::ServerState, metrics::Metrics};

/// Whether the server should receive traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The base is not warm, or the first scan of the heads is not installed.
    Starting,
    Ready,
    Draining,
}

#[derive(Debug, Clone)]
struct Admin {
    state: Arc<ServerState>,
    phase: watch::Receiver<Phase>,
}

pub fn routes(state: Arc<ServerState>, phase: watch::Receiver<Phase>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(Admin { state, phase })
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let Admin { state, .. } = admin;
    match spawn_blocking(move || render(&state)).await {
        Ok(text) => ([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "cannot render metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn render(state: &ServerState) -> String {
    let table = state.registry.snapshot();
    state.metrics.render(table.heads().map(|head| head.info()))
}

/// Runs metrics upkeep until aborted, which keeps memory flat without a scrape.
pub async fn keep_up(metrics: Arc<Metrics>, interval: Duration) {
    let mut timer = tokio::time::interval(interval);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        let metrics = metrics.clone();
        if let Err(error) = spawn_blocking(move || metrics.upkeep()).await {
            tracing::error!(%error, "metrics upkeep failed");
        }
    }
}

/// Fails only when a restart would help: never because of load or a bad head.
async fn livez(State(admin): State<Admin>) -> (StatusCode, &'static str) {
    match admin.state.engine.get() {
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
            "starting: the base is not warm or the heads are not scanned yet\n",
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
        let stat = procfs::process::Process::myself().unwrap().stat().unwrap();
        stat.rss * procfs::page_size()
    }

    #[test]
    fn memory_stays_flat_without_a_scrape() {
        const ALONE: &str = "TURRET_TEST_ALONE";
        if env::var_os(ALONE).is_none() {
            // In its own process, where no other test allocates.
            let name = "admin::tests::memory_stays_flat_without_a_scrape";
            let mut again = Command::new(env::current_exe().unwrap());
            assert!(again.args(["--exact", name]).env(ALONE, "1").status().unwrap().success());
            return;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(observe_without_a_scrape());
    }

    async fn observe_without_a_scrape() {
        const MILLISECONDS: u64 = 2_000;
        const OBSERVATIONS: u64 = 1_000;
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
        // An observation takes 16 bytes until upkeep counts it in its bucket: all would take 29 MB.
        assert!(added < 12 << 20, "{added} bytes were added");
        let text = metrics.render(std::iter::empty());
        let series = "turret_stage_duration_seconds_count{stage=\"head\"} ";
        let counted = text.lines().find_map(|line| line.strip_prefix(series)).unwrap();
        assert_eq!(counted.parse(), Ok(MILLISECONDS * OBSERVATIONS), "observations were lost");
    }
}
