//! The name, help text, type and buckets of each metric.

use ::metrics::{Counter, Gauge, Histogram, Key, Label, Level, Metadata, Recorder};

/// From 0.5 ms for a linear head on a GPU to 30 s for a queue on a small CPU.
const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.0,
    5.0, 10.0, 30.0,
];
const COUNTS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// All series that share a name.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Counter,
    Gauge,
    /// Holds the upper bounds of its buckets.
    Histogram(&'static [f64]),
}

pub(super) const REQUESTS: Family =
    counter("turret_requests_total", "Requests answered, one for each task asked.");
pub(super) const REQUEST_DURATION: Family = histogram(
    "turret_request_duration_seconds",
    "Time from a request's arrival to its answer.",
    SECONDS,
);
pub(super) const STAGE_DURATION: Family =
    histogram("turret_stage_duration_seconds", "Time that an image spends in each stage.", SECONDS);
pub(super) const BATCH_IMAGES: Family =
    histogram("turret_batch_images", "Images in a forward pass.", COUNTS);
pub(super) const BATCH_TASKS: Family =
    histogram("turret_batch_tasks", "Different tasks in a forward pass.", COUNTS);
pub(super) const QUEUE_IMAGES: Family =
    gauge("turret_queue_images", "Images accepted and not yet answered.");
pub(super) const QUEUE_BYTES: Family =
    gauge("turret_queue_bytes", "Bytes of the images accepted and not yet answered.");
pub(super) const FORWARD_PASS_AGE: Family = gauge(
    "turret_forward_pass_age_seconds",
    "Time since the oldest running forward pass began; 0 if none runs.",
);
pub(super) const LAST_SCAN_AGE: Family = gauge(
    "turret_last_scan_age_seconds",
    "Time since a scan of the heads ended, or since the start before the first.",
);
pub(super) const REJECTED: Family =
    counter("turret_rejected_total", "Requests that got no verdict for want of room or time.");
pub(super) const VERDICTS: Family = counter("turret_verdicts_total", "Verdicts given.");
pub(super) const HEAD_RELOADS: Family =
    counter("turret_head_reloads_total", "What came of looking at head files.");
pub(super) const HEAD_INSTALL_DURATION: Family = histogram(
    "turret_head_install_duration_seconds",
    "Time to read, check and install a head.",
    SECONDS,
);
pub(super) const DEEP_HEAD_BYTES: Family = gauge(
    "turret_deep_head_bytes",
    "Bytes of the private layers of deep heads on the device, counted in f32.",
);
pub(super) const DEEP_HEAD_BUDGET_BYTES: Family =
    gauge("turret_deep_head_budget_bytes", "Bytes that the private layers of deep heads may take.");
pub(super) const LOG_LINES_DROPPED: Family = counter(
    "turret_log_lines_dropped_total",
    "Log lines that found no room or could not be written.",
);
pub(super) const BASE_INFO: Family =
    gauge("turret_base_info", "The base that is served; always 1.");

/// The families that the recorder keeps.
pub(super) const RECORDED: &[Family] = &[
    REQUESTS,
    REQUEST_DURATION,
    STAGE_DURATION,
    BATCH_IMAGES,
    BATCH_TASKS,
    QUEUE_IMAGES,
    QUEUE_BYTES,
    FORWARD_PASS_AGE,
    LAST_SCAN_AGE,
    REJECTED,
    VERDICTS,
    HEAD_RELOADS,
    HEAD_INSTALL_DURATION,
    DEEP_HEAD_BYTES,
    DEEP_HEAD_BUDGET_BYTES,
    LOG_LINES_DROPPED,
    BASE_INFO,
];

/// The families that are rendered from the registry's snapshot.
pub(super) const HEADS_SERVING: Family = gauge("turret_heads_serving", "Tasks that have a head.");
pub(super) const HEAD_INFO: Family =
    gauge("turret_head_info", "The head that serves a task; always 1.");

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: Kind::Counter }
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, help, kind: Kind::Gauge }
}

const fn histogram(name: &'static str, help: &'static str, bounds: &'static [f64]) -> Family {
    Family { name, help, kind: Kind::Histogram(bounds) }
}

/// Required by the recorder; there is no filter that would use the level.
const METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

/// Label names and values, sorted by name as they are written.
pub(super) type Labels<'a> = &'a [(&'static str, &'a str)];

impl Family {
    pub(super) fn describe(&self, recorder: &impl Recorder) {
        let (name, help) = (self.name.into(), self.help.into());
        match self.kind {
            Kind::Counter => recorder.describe_counter(name, None, help),
            Kind::Gauge => recorder.describe_gauge(name, None, help),
            Kind::Histogram(_) => recorder.describe_histogram(name, None, help),
        }
    }

    /// Registers the series at zero, or returns the existing one.
    pub(super) fn counter(&self, recorder: &impl Recorder, labels: Labels<'_>) -> Counter {
        recorder.register_counter(&self.key(labels), &METADATA)
    }

    /// Registers a series like [`counter`](Self::counter).
    pub(super) fn gauge(&self, recorder: &impl Recorder, labels: Labels<'_>) -> Gauge {
        recorder.register_gauge(&self.key(labels), &METADATA)
    }

    /// Registers a series like [`counter`](Self::counter).
    pub(super) fn histogram(&self, recorder: &impl Recorder, labels: Labels<'_>) -> Histogram {
        recorder.register_histogram(&self.key(labels), &METADATA)
    }

    fn key(&self, labels: Labels<'_>) -> Key {
        let labels = labels.iter().map(|(name, value)| {
            // The exporter takes a backslash for the start of an escape, and would merge values
            // that differ only in backslashes. A doubled backslash is written correctly.
            Label::new(*name, value.replace('\\', r"\\"))
        });
        Key::from_parts(self.name, labels.collect::<Vec<_>>())
    }
}
