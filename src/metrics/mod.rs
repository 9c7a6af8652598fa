//! All metrics of the server: their names, labels and buckets.
//!
//! Label values come from heads or closed lists, never from requests.

mod dropped_lines;
mod families;
mod labels;
mod observations;
mod serving;
mod tasks;
#[cfg(test)]
mod tests;

pub use dropped_lines::DroppedLines;
pub use labels::{Code, DecisionLabel, Rejection, Reload, Rpc, Stage};
pub use metrics_exporter_prometheus::BuildError;
pub use observations::Histogram;
pub use serving::HeadInfo;
pub use tasks::{MAX_LABELS, MAX_TASKS, TaskCounters};

use std::{
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::Duration,
};

use ::metrics::{Counter, Gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};

use families::{
    BASE_INFO, BATCH_IMAGES, BATCH_TASKS, DEEP_HEAD_BUDGET_BYTES, DEEP_HEAD_BYTES,
    FORWARD_PASS_AGE, Family, HEAD_INSTALL_DURATION, HEAD_RELOADS, Kind, LAST_SCAN_AGE,
    LOG_LINES_DROPPED, QUEUE_BYTES, QUEUE_IMAGES, RECORDED, REJECTED, REQUEST_DURATION, REQUESTS,
    STAGE_DURATION,
};
use observations::Observations;
use tasks::{Event, First, Resolver};

/// The metrics of one server.
///
/// Guarantees under concurrent use:
/// 1. Counting, observing and setting never wait and look up no name. A concurrent render or
///    upkeep never blocks a request.
/// 2. Every count of a counter arrives exactly once and never decreases or disappears: a new
///    version of a task, or a task that returns, continues the old counters.
/// 3. A render includes every count made before it began, except the first counts of a series when
///    several threads make them at once: those may arrive with the next render.
/// 4. A head without requests has no counters. At most [`MAX_TASKS`] tasks, and [`MAX_LABELS`]
///    labels of each, ever get their own; the others are counted together as `_other`.
/// 5. Every observation arrives exactly once, and holds memory only until the next render or
///    upkeep; one made during a render arrives with the next.
/// 6. Nothing is global: two servers in one process have independent metrics.
#[derive(Debug)]
pub struct Metrics {
    recorder: PrometheusRecorder,
    observations: Observations,
    process: metrics_process::Collector,
    request_duration: Vec<Histogram>,
    stage_duration: Vec<Histogram>,
    pub batch_images: Histogram,
    pub batch_tasks: Histogram,
    pub queue_images: Gauge,
    pub queue_bytes: Gauge,
    /// Set before each render, as is `last_scan_age`.
    pub forward_pass_age: Gauge,
    pub last_scan_age: Gauge,
    rejected: Vec<Counter>,
    head_reloads: Vec<Counter>,
    pub head_install_duration: Histogram,
    pub deep_head_bytes: Gauge,
    pub deep_head_budget_bytes: Gauge,
    log_lines_dropped: Counter,
    dropped_lines: DroppedLines,
    /// Counts requests that name no served task.
    no_task: Arc<TaskCounters>,
    first: mpsc::Sender<First>,
    /// Locked only by renders and upkeeps.
    resolver: Mutex<Resolver>,
}

impl Metrics {
    /// The content type of [`render`](Self::render).
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    /// How often to call [`upkeep`](Self::upkeep) in case nobody scrapes.
    pub const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

    /// Creates every series with a closed list of labels, at zero.
    ///
    /// # Errors
    /// If a histogram has no buckets, a bug in this module that its tests catch.
    pub fn new() -> Result<Self, BuildError> {
        let mut builder = PrometheusBuilder::new();
        for family in RECORDED {
            if let Kind::Histogram(bounds) = family.kind {
                let matcher = Matcher::Full(family.name.to_owned());
                builder = builder.set_buckets_for_metric(matcher, bounds)?;
            }
        }
        let recorder = builder.build_recorder();
        RECORDED.iter().for_each(|family| family.describe(&recorder));
        let process = metrics_process::Collector::default();
        ::metrics::with_local_recorder(&recorder, || process.describe());
        // A series that appears with its first event misses that event in `rate()`.
        for rpc in Rpc::ALL {
            let labels = [("code", Code::Ok.as_str()), ("rpc", rpc.as_str()), ("task", "")];
            let _at_zero = REQUESTS.counter(&recorder, &labels);
        }
        let observations = Observations::new();
        let histogram = |family: &Family, labels: &[_]| {
            observations.histogram(family.histogram(&recorder, labels))
        };
        let rpc_duration = |rpc: &Rpc| histogram(&REQUEST_DURATION, &[("rpc", rpc.as_str())]);
        let stage_duration =
            |stage: &Stage| histogram(&STAGE_DURATION, &[("stage", stage.as_str())]);
        let rejections =
            |reason: &Rejection| REJECTED.counter(&recorder, &[("reason", reason.as_str())]);
        let reloads =
            |result: &Reload| HEAD_RELOADS.counter(&recorder, &[("result", result.as_str())]);
        let (first, firsts) = mpsc::channel();
        Ok(Self {
            request_duration: Rpc::ALL.iter().map(rpc_duration).collect(),
            stage_duration: Stage::ALL.iter().map(stage_duration).collect(),
            batch_images: histogram(&BATCH_IMAGES, &[]),
            batch_tasks: histogram(&BATCH_TASKS, &[]),
            queue_images: QUEUE_IMAGES.gauge(&recorder, &[]),
            queue_bytes: QUEUE_BYTES.gauge(&recorder, &[]),
            forward_pass_age: FORWARD_PASS_AGE.gauge(&recorder, &[]),
            last_scan_age: LAST_SCAN_AGE.gauge(&recorder, &[]),
            rejected: Rejection::ALL.iter().map(rejections).collect(),
            head_reloads: Reload::ALL.iter().map(reloads).collect(),
            head_install_duration: histogram(&HEAD_INSTALL_DURATION, &[]),
            deep_head_bytes: DEEP_HEAD_BYTES.gauge(&recorder, &[]),
            deep_head_budget_bytes: DEEP_HEAD_BUDGET_BYTES.gauge(&recorder, &[]),
            log_lines_dropped: LOG_LINES_DROPPED.counter(&recorder, &[]),
            dropped_lines: DroppedLines::default(),
            no_task: Arc::new(TaskCounters::new("", [])),
            first,
            resolver: Mutex::new(Resolver::new(firsts)),
            process,
            observations,
            recorder,
        })
    }

    /// Shows this count of dropped log lines.
    pub fn with_dropped_lines(self, dropped_lines: DroppedLines) -> Self {
        Self { dropped_lines, ..self }
    }

    /// Counts a request for a served task, or, with `None`, one that names no such task.
    pub fn count_request(&self, rpc: Rpc, task: Option<&Arc<TaskCounters>>, code: Code) {
        tasks::count(task.unwrap_or(&self.no_task), Event::Request(rpc, code), &self.first);
    }

    /// Counts a verdict for the class with this index; unknown indices are not counted.
    pub fn count_verdict(&self, task: &Arc<TaskCounters>, class: usize, decision: DecisionLabel) {
        tasks::count(task, Event::Verdict(class, decision), &self.first);
    }

    pub fn count_rejection(&self, reason: Rejection) {
        self.rejected[reason as usize].increment(1);
    }

    pub fn count_reload(&self, result: Reload) {
        self.head_reloads[result as usize].increment(1);
    }

    pub fn observe_request(&self, rpc: Rpc, took: Duration) {
        self.request_duration[rpc as usize].record(took);
    }

    pub fn observe_stage(&self, stage: Stage, took: Duration) {
        self.stage_duration[stage as usize].record(took);
    }

    /// Records which base serves; to be called once.
    pub fn set_base(&self, architecture: &str, digest: &str, device: &str, precision: &str) {
        let labels = [
            ("architecture", architecture),
            ("device", device),
            ("digest", digest),
            ("precision", precision),
        ];
        BASE_INFO.gauge(&self.recorder, &labels).set(1);
    }

    /// Renders all metrics in Prometheus' text exposition format, version 0.0.4.
    ///
    /// Takes milliseconds with thousands of heads: do not call it on a thread that serves requests.
    pub fn render<'a>(&self, serving: impl ExactSizeIterator<Item = HeadInfo<'a>>) -> String {
        self.resolve_counters();
        self.log_lines_dropped.absolute(self.dropped_lines.count());
        ::metrics::with_local_recorder(&self.recorder, || self.process.collect());
        let mut text = self.observations.drain(|| self.recorder.handle().render());
        serving::append(&mut text, serving);
        text
    }

    /// Sorts observations into their buckets, which frees their memory.
    ///
    /// Takes milliseconds after many observations: do not call it on a thread that serves requests.
    pub fn upkeep(&self) {
        self.resolve_counters();
        self.observations.drain(|| self.recorder.handle().run_upkeep());
    }

    fn resolve_counters(&self) {
        let mut resolver = self.resolver.lock().unwrap_or_else(PoisonError::into_inner);
        resolver.resolve_all(&self.recorder);
    }
}
