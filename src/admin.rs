//! The HTTP admin port for operators and orchestrators: `/metrics`, `/livez` and `/readyz`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{task::spawn_blocking, time::MissedTickBehavior};

use crate::{
    health::{Health, Phase, reasons},
    metrics::Metrics,
};

pub fn routes(health: Arc<Health>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(health)
}

async fn metrics(State(health): State<Arc<Health>>) -> Response {
    match spawn_blocking(move || render(&health)).await {
        Ok(text) => ([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "cannot render metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn render(health: &Health) -> String {
    health.show_ages(Instant::now());
    let table = health.state.registry.snapshot();
    health.state.metrics.render(table.heads().map(|head| head.info()))
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
async fn livez(State(health): State<Arc<Health>>) -> (StatusCode, String) {
    let causes = health.causes(Instant::now()).into_iter();
    let fatal = reasons(causes.filter(|cause| cause.needs_restart()));
    if fatal.is_empty() {
        (StatusCode::OK, "alive\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("restart: {fatal}\n"))
    }
}

async fn readyz(State(health): State<Arc<Health>>) -> (StatusCode, String) {
    let reason = match health.phase() {
        Phase::Starting => {
            "starting: the base is not warm or the heads are not scanned yet".to_owned()
        }
        Phase::Draining => "draining".to_owned(),
        Phase::Ready => match health.causes(Instant::now()) {
            causes if causes.is_empty() => return (StatusCode::OK, "ready\n".to_owned()),
            causes => format!("not ready: {}", reasons(causes)),
        },
    };
    (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n"))
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
