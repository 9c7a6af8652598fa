//! Every metric of the server: names, labels and buckets in one place.
//!
//! A label's value comes from the registry of heads or from a closed list, never from a request. A task's series go
//! when its head goes.

use std::collections::HashMap;

use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder, core::Collector,
};

const NAMESPACE: &str = "turret";

/// From half a millisecond to half a minute: a linear head on a GPU up to a queue on a small CPU.
const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0,
    30.0,
];
const COUNTS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

pub const RPCS: [&str; 5] = ["Classify", "ClassifyStream", "Embed", "ListHeads", "WatchHeads"];
pub const STAGES: [&str; 4] = ["decode", "queue", "forward", "head"];
/// Why a request got no verdict for want of room or time.
pub const REJECTIONS: [&str; 5] = ["queue_full", "bytes_full", "deadline", "draining", "device_lost"];
/// How a look at a head file ended.
pub const RELOADS: [&str; 4] = ["installed", "refused", "withdrawn", "scan_failed"];
pub const DECISIONS: [&str; 3] = ["PASS", "REJECT", "REVIEW"];

/// The handles; cheap to clone through an `Arc`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    pub request_duration: HistogramVec,
    pub stage_duration: HistogramVec,
    pub batch_images: Histogram,
    pub batch_tasks: Histogram,
    pub queue_images: IntGauge,
    pub queue_bytes: IntGauge,
    pub rejected: IntCounterVec,
    verdicts: IntCounterVec,
    pub head_reloads: IntCounterVec,
    pub head_install_duration: Histogram,
    pub heads_serving: IntGauge,
    pub deep_head_bytes: IntGauge,
    pub deep_head_budget_bytes: IntGauge,
    base_info: IntGaugeVec,
}

impl Metrics {
    /// A registry of its own, so that several servers can live in one process.
    ///
    /// # Errors
    /// If two metrics have one name: a mistake in this file, caught by its tests.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let metrics = Self {
            requests: IntCounterVec::new(
                opts("requests_total", "Requests answered, one for each task asked."),
                &["rpc", "task", "code"],
            )?,
            request_duration: HistogramVec::new(
                seconds("request_duration_seconds", "Time from a request's arrival to its answer."),
                &["rpc"],
            )?,
            stage_duration: HistogramVec::new(
                seconds("stage_duration_seconds", "Time that an image spends in each stage."),
                &["stage"],
            )?,
            batch_images: Histogram::with_opts(counts("batch_images", "Images in a forward pass."))?,
            batch_tasks: Histogram::with_opts(counts("batch_tasks", "Different tasks in a forward pass."))?,
            queue_images: IntGauge::with_opts(opts("queue_images", "Images accepted and not yet answered."))?,
            queue_bytes: IntGauge::with_opts(opts(
                "queue_bytes",
                "Bytes of the images accepted and not yet answered.",
            ))?,
            rejected: IntCounterVec::new(
                opts("rejected_total", "Requests that got no verdict for want of room or time."),
                &["reason"],
            )?,
            verdicts: IntCounterVec::new(
                opts("verdicts_total", "Verdicts given."),
                &["task", "decision", "label"],
            )?,
            head_reloads: IntCounterVec::new(
                opts("head_reloads_total", "What came of looking at head files."),
                &["result"],
            )?,
            head_install_duration: Histogram::with_opts(seconds(
                "head_install_duration_seconds",
                "Time to read, check and install a head.",
            ))?,
            heads_serving: IntGauge::with_opts(opts("heads_serving", "Tasks that have a head."))?,
            deep_head_bytes: IntGauge::with_opts(opts(
                "deep_head_bytes",
                "Bytes of the private layers of deep heads on the device, counted in f32.",
            ))?,
            deep_head_budget_bytes: IntGauge::with_opts(opts(
                "deep_head_budget_bytes",
                "Bytes that the private layers of deep heads may take.",
            ))?,
            base_info: IntGaugeVec::new(
                opts("base_info", "The base that is served; always 1."),
                &["architecture", "digest", "device", "precision"],
            )?,
            registry,
        };
        metrics.register_all()?;
        metrics.start_at_zero();
        Ok(metrics)
    }

    fn register_all(&self) -> Result<(), prometheus::Error> {
        let all: [Box<dyn Collector>; 15] = [
            Box::new(self.requests.clone()),
            Box::new(self.request_duration.clone()),
            Box::new(self.stage_duration.clone()),
            Box::new(self.batch_images.clone()),
            Box::new(self.batch_tasks.clone()),
            Box::new(self.queue_images.clone()),
            Box::new(self.queue_bytes.clone()),
            Box::new(self.rejected.clone()),
            Box::new(self.verdicts.clone()),
            Box::new(self.head_reloads.clone()),
            Box::new(self.head_install_duration.clone()),
            Box::new(self.heads_serving.clone()),
            Box::new(self.deep_head_bytes.clone()),
            Box::new(self.deep_head_budget_bytes.clone()),
            Box::new(self.base_info.clone()),
        ];
        all.into_iter().try_for_each(|collector| self.registry.register(collector))?;
        self.registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
    }

    /// A series that appears with its first event has no rate at that event.
    fn start_at_zero(&self) {
        for rpc in RPCS {
            self.requests.with_label_values(&[rpc, "", "OK"]);
            self.request_duration.with_label_values(&[rpc]);
        }
        for stage in STAGES {
            self.stage_duration.with_label_values(&[stage]);
        }
        for reason in REJECTIONS {
            self.rejected.with_label_values(&[reason]);
        }
        for result in RELOADS {
            self.head_reloads.with_label_values(&[result]);
        }
    }

    /// Adds metrics that are read from elsewhere when they are asked for.
    pub fn register(&self, collector: Box<dyn Collector>) -> Result<(), prometheus::Error> {
        self.registry.register(collector)
    }

    /// `task` is a served task's name, or empty where a request named none that is served.
    pub fn requests(&self, rpc: &'static str, task: &str, code: &'static str) -> IntCounter {
        self.requests.with_label_values(&[rpc, task, code])
    }

    pub fn verdicts(&self, task: &str, decision: &'static str, label: &str) -> IntCounter {
        self.verdicts.with_label_values(&[task, decision, label])
    }

    pub fn set_base(&self, architecture: &str, digest: &str, device: &str, precision: &str) {
        self.base_info.reset();
        self.base_info.with_label_values(&[architecture, digest, device, precision]).set(1);
    }

    /// Takes away the series of a task that is no longer served.
    pub fn forget_task(&self, task: &str) {
        remove_series(&self.requests, &[("task", task)]);
        remove_series(&self.verdicts, &[("task", task)]);
    }

    /// Takes away the series of a class that the task's new head no longer has.
    pub fn forget_label(&self, task: &str, label: &str) {
        remove_series(&self.verdicts, &[("task", task), ("label", label)]);
    }

    /// The text exposition format of Prometheus, version 0.0.4.
    ///
    /// # Errors
    /// If a metric has no name or two families have one name.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// What a scraper has to be told that it gets.
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";
}

/// Removes every series that has all these label values.
fn remove_series(counters: &IntCounterVec, wanted: &[(&str, &str)]) {
    for metric in counters.collect().iter().flat_map(|family| family.get_metric()) {
        let labels = metric.get_label();
        let has =
            |(name, value): &(&str, &str)| labels.iter().any(|l| l.name() == *name && l.value() == *value);
        if wanted.iter().all(has) {
            let values: HashMap<&str, &str> =
                labels.iter().map(|label| (label.name(), label.value())).collect();
            // Somebody else may have removed it meanwhile; gone is what was wanted.
            let _gone = counters.remove(&values);
        }
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace(NAMESPACE)
}

fn seconds(name: &str, help: &str) -> HistogramOpts {
    HistogramOpts::from(opts(name, help)).buckets(SECONDS.to_vec())
}

fn counts(name: &str, help: &str) -> HistogramOpts {
    HistogramOpts::from(opts(name, help)).buckets(COUNTS.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_there_at_zero_before_the_first_request() {
        let text = Metrics::new().unwrap().render().unwrap();
        for line in [
            "turret_requests_total{code=\"OK\",rpc=\"Classify\",task=\"\"} 0",
            "turret_rejected_total{reason=\"queue_full\"} 0",
            "turret_head_reloads_total{result=\"refused\"} 0",
            "turret_stage_duration_seconds_count{stage=\"forward\"} 0",
            "turret_heads_serving 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(text.contains("process_resident_memory_bytes"));
        assert!(!text.contains("quantile="), "summaries cannot be added over servers");
    }

    #[test]
    fn series_of_a_withdrawn_task_go_and_others_stay() {
        let metrics = Metrics::new().unwrap();
        for task in ["a", "b"] {
            metrics.requests("Classify", task, "OK").inc();
            metrics.verdicts(task, "PASS", "ok").inc();
            metrics.verdicts(task, "REJECT", "dent").inc();
        }
        metrics.forget_task("a");
        metrics.forget_label("b", "dent");
        let text = metrics.render().unwrap();
        assert!(!text.contains("task=\"a\""));
        assert!(text.contains("label=\"ok\",task=\"b\"") && !text.contains("label=\"dent\",task=\"b\""));
    }
}
