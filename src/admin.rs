//! The HTTP port for people and machines that look after the server: `/metrics`, `/livez`, `/readyz`.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus::{
    Opts,
    core::{Collector, Desc},
    proto::{Gauge, LabelPair, Metric, MetricFamily, MetricType},
};
use tokio::sync::watch;

use crate::{grpc::Edge, metrics::Metrics, registry::Registry};

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
    match admin.edge.metrics.render() {
        Ok(text) => ([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
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

/// `head_info{task,version,digest} = 1`, read from the registry when asked: no series to keep in step.
#[derive(Debug)]
pub struct HeadInfo {
    registry: Arc<Registry>,
    desc: Desc,
}

const HEAD_INFO: &str = "turret_head_info";
const HEAD_INFO_HELP: &str = "The head that serves a task; always 1.";

impl HeadInfo {
    /// # Errors
    /// If the metric's name is not valid.
    pub fn new(registry: Arc<Registry>) -> Result<Self, prometheus::Error> {
        let labels = ["task", "version", "digest"].map(str::to_owned).to_vec();
        let desc = Desc::new(
            HEAD_INFO.to_owned(),
            HEAD_INFO_HELP.to_owned(),
            labels,
            Opts::new("", "").const_labels,
        )?;
        Ok(Self { registry, desc })
    }
}

impl Collector for HeadInfo {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let table = self.registry.snapshot();
        let metrics = table.heads().map(|head| {
            let label = |name: &str, value: String| {
                let mut label = LabelPair::default();
                label.set_name(name.to_owned());
                label.set_value(value);
                label
            };
            let labels = vec![
                label("digest", head.digest.to_string()),
                label("task", head.task.to_string()),
                label("version", head.version.to_string()),
            ];
            let mut one = Gauge::default();
            one.set_value(1.0);
            let mut metric = Metric::default();
            metric.set_label(labels);
            metric.set_gauge(one);
            metric
        });
        let mut family = MetricFamily::default();
        family.set_name(HEAD_INFO.to_owned());
        family.set_help(HEAD_INFO_HELP.to_owned());
        family.set_field_type(MetricType::GAUGE);
        family.set_metric(metrics.collect());
        vec![family]
    }
}
