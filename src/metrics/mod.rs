//! Every metric of the server: names, labels and buckets in one place.
//!
//! A label's value comes from a head or from a closed list, never from a request.

mod families;
mod labels;
mod serving;
mod tasks;
#[cfg(test)]
mod tests;

pub use labels::{Code, Decision, Rejection, Reload, Rpc, Stage};
pub use metrics_exporter_prometheus::BuildError;
pub use serving::HeadInfo;
pub use tasks::{MAX_LABELS, MAX_TASKS, TaskCounters};

use std::{
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::Duration,
};

use ::metrics::{Counter, Gauge, Histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};

use families::{
    BASE_INFO, BATCH_IMAGES, BATCH_TASKS, DEEP_HEAD_BUDGET_BYTES, DEEP_HEAD_BYTES,
    HEAD_INSTALL_DURATION, HEAD_RELOADS, Kind, QUEUE_BYTES, QUEUE_IMAGES, RECORDED, REJECTED,
    REQUEST_DURATION, REQUESTS, STAGE_DURATION,
};
use tasks::{Event, First, Resolver};

/// The metrics of one server.
///
/// Guarantees, whatever other threads do:
/// 1. Counting, observing and setting take no lock and look no name up; a rendering or an upkeep
///    that runs meanwhile holds up no request.
/// 2. Every count arrives, once, and none goes down or away: a new version of a task, or a task
///    that comes back, counts on where the one before it stopped.
/// 3. A rendering has every count that was made before it began, save the first counts of a series
///    when several threads make them at once: those may come with the next.
/// 4. A head that nobody asked has no counter. At most [`MAX_TASKS`] tasks, and [`MAX_LABELS`]
///    labels of each, ever get counters of their own; the others are counted together as `_other`.
/// 5. Observations take memory until the next rendering or upkeep, and none after it.
/// 6. Nothing is global: the metrics of two servers in one process know nothing of each other.
#[derive(Debug)]
pub struct Metrics {
    recorder: PrometheusRecorder,
    process: metrics_process::Collector,
    request_duration: Vec<Histogram>,
    stage_duration: Vec<Histogram>,
    pub batch_images: Histogram,
    pub batch_tasks: Histogram,
    pub queue_images: Gauge,
    pub queue_bytes: Gauge,
    rejected: Vec<Counter>,
    head_reloads: Vec<Counter>,
    pub head_install_duration: Histogram,
    pub deep_head_bytes: Gauge,
    pub deep_head_budget_bytes: Gauge,
    /// Of requests that named no task that is served.
    no_task: Arc<TaskCounters>,
    first: mpsc::Sender<First>,
    /// Only renderings and upkeeps lock it.
    resolver: Mutex<Resolver>,
}

impl Metrics {
    /// What a scraper has to be told that it gets.
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    /// How often [`upkeep`](Self::upkeep) shall be called where nobody scrapes.
    pub const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

    /// Every series with a closed list of labels, at zero.
    ///
    /// # Errors
    /// If a histogram has no buckets: a mistake in this module, caught by its tests.
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
        // A series that appears with its first event has no rate at that event.
        for rpc in Rpc::ALL {
            let labels = [("code", Code::Ok.as_str()), ("rpc", rpc.as_str()), ("task", "")];
            let _at_zero = REQUESTS.counter(&recorder, &labels);
        }
        let of_rpc = |rpc: &Rpc| REQUEST_DURATION.histogram(&recorder, &[("rpc", rpc.as_str())]);
        let of_stage =
            |stage: &Stage| STAGE_DURATION.histogram(&recorder, &[("stage", stage.as_str())]);
        let of_rejection =
            |reason: &Rejection| REJECTED.counter(&recorder, &[("reason", reason.as_str())]);
        let of_reload =
            |result: &Reload| HEAD_RELOADS.counter(&recorder, &[("result", result.as_str())]);
        let (first, firsts) = mpsc::channel();
        Ok(Self {
            request_duration: Rpc::ALL.iter().map(of_rpc).collect(),
            stage_duration: Stage::ALL.iter().map(of_stage).collect(),
            batch_images: BATCH_IMAGES.histogram(&recorder, &[]),
            batch_tasks: BATCH_TASKS.histogram(&recorder, &[]),
            queue_images: QUEUE_IMAGES.gauge(&recorder, &[]),
            queue_bytes: QUEUE_BYTES.gauge(&recorder, &[]),
            rejected: Rejection::ALL.iter().map(of_rejection).collect(),
            head_reloads: Reload::ALL.iter().map(of_reload).collect(),
            head_install_duration: HEAD_INSTALL_DURATION.histogram(&recorder, &[]),
            deep_head_bytes: DEEP_HEAD_BYTES.gauge(&recorder, &[]),
            deep_head_budget_bytes: DEEP_HEAD_BUDGET_BYTES.gauge(&recorder, &[]),
            no_task: Arc::new(TaskCounters::new("", [])),
            first,
            resolver: Mutex::new(Resolver::new(firsts)),
            process,
            recorder,
        })
    }

    /// Counts a request for a task that is served, or with `None` one that named no such task.
    pub fn count_request(&self, rpc: Rpc, task: Option<&Arc<TaskCounters>>, code: Code) {
        tasks::count(task.unwrap_or(&self.no_task), Event::Request(rpc, code), &self.first);
    }

    /// Counts a verdict for the class with this number; numbers of no class are not counted.
    pub fn count_verdict(&self, task: &Arc<TaskCounters>, class: usize, decision: Decision) {
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

    /// Tells which base is served; to be called once.
    pub fn set_base(&self, architecture: &str, digest: &str, device: &str, precision: &str) {
        let labels = [
            ("architecture", architecture),
            ("device", device),
            ("digest", digest),
            ("precision", precision),
        ];
        BASE_INFO.gauge(&self.recorder, &labels).set(1);
    }

    /// Writes everything in the text exposition format of Prometheus, version 0.0.4.
    ///
    /// Takes milliseconds where thousands of heads serve: not for a thread that answers requests.
    pub fn render<'a>(&self, serving: impl ExactSizeIterator<Item = HeadInfo<'a>>) -> String {
        self.resolve_counters();
        ::metrics::with_local_recorder(&self.recorder, || self.process.collect());
        let mut text = self.recorder.handle().render();
        serving::append(&mut text, serving);
        text
    }

    /// Sorts observations into their buckets, which gives their memory back.
    ///
    /// Takes milliseconds after many observations: not for a thread that answers requests.
    pub fn upkeep(&self) {
        self.resolve_counters();
        self.recorder.handle().run_upkeep();
    }

    fn resolve_counters(&self) {
        let mut resolver = self.resolver.lock().unwrap_or_else(PoisonError::into_inner);
        resolver.resolve_all(&self.recorder);
    }
}
