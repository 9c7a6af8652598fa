//! The counters of each task: resolved on the first count, then kept with the head.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
};

use ::metrics::{Counter, Recorder};

use super::{
    families::{REQUESTS, VERDICTS},
    labels::{Code, DecisionLabel, Rpc},
};

/// Most tasks that get their own series in the lifetime of a server.
pub const MAX_TASKS: usize = 20_000;
/// Most labels per task that get their own series, over all versions of its head.
pub const MAX_LABELS: usize = 1_000;
/// The task or label under which the rest is counted; no task can have this name.
const OTHER: &str = "_other";

/// The counters of one head.
///
/// Heads of one task, each with its own `TaskCounters`, count into the same series.
#[derive(Debug)]
pub struct TaskCounters {
    task: Box<str>,
    /// By class.
    labels: Box<[Box<str>]>,
    requests: [[LazyCounter; Code::ALL.len()]; Rpc::ALL.len()],
    /// By class.
    verdicts: Box<[[LazyCounter; DecisionLabel::ALL.len()]]>,
}

/// A counter without a series until it has counted something.
#[derive(Debug, Default)]
struct LazyCounter {
    series: OnceLock<Counter>,
    /// Counts made before the series existed.
    early: AtomicU64,
}

/// The first count of a counter, sent to the [`Resolver`] so that it registers a series.
#[derive(Debug)]
pub(super) struct First {
    counters: Arc<TaskCounters>,
    event: Event,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Event {
    Request(Rpc, Code),
    /// Holds the index of the class.
    Verdict(usize, DecisionLabel),
}

impl TaskCounters {
    /// Creates counters without series; `labels` are those of the head's classes, in order.
    pub fn new<'a>(task: &str, labels: impl IntoIterator<Item = &'a str>) -> Self {
        let labels: Box<[Box<str>]> = labels.into_iter().map(Box::from).collect();
        let verdicts = labels.iter().map(|_| Default::default()).collect();
        Self { task: task.into(), labels, requests: Default::default(), verdicts }
    }

    fn of(&self, event: Event) -> Option<&LazyCounter> {
        match event {
            Event::Request(rpc, code) => Some(&self.requests[rpc as usize][code as usize]),
            Event::Verdict(class, decision) => {
                self.verdicts.get(class).map(|counters| &counters[decision as usize])
            }
        }
    }
}

/// Counts one event without taking a lock or looking up a name.
pub(super) fn count(counters: &Arc<TaskCounters>, event: Event, first: &mpsc::Sender<First>) {
    let Some(counter) = counters.of(event) else { return };
    match counter.series.get() {
        Some(series) => series.increment(1),
        // The thread that raises it from 0 sends it, so early counts are always resolved.
        None if counter.early.fetch_add(1, Ordering::AcqRel) == 0 => {
            // The receiver lives as long as the sender.
            let _received = first.send(First { counters: counters.clone(), event });
        }
        None => {}
    }
}

/// Registers series for counters and tracks which tasks and labels have one.
#[derive(Debug)]
pub(super) struct Resolver {
    first: mpsc::Receiver<First>,
    labels_by_task: HashMap<Box<str>, HashSet<Box<str>>>,
}

impl Resolver {
    pub(super) fn new(first: mpsc::Receiver<First>) -> Self {
        // Requests that name no task are not a task.
        Self { first, labels_by_task: HashMap::from([("".into(), HashSet::new())]) }
    }

    /// Registers a series for every counter first used since the last call.
    pub(super) fn resolve_all(&mut self, recorder: &impl Recorder) {
        while let Ok(First { counters, event }) = self.first.try_recv() {
            let Some(counter) = counters.of(event) else { continue };
            let series = counter.series.get_or_init(|| self.resolve(recorder, &counters, event));
            series.increment(counter.early.swap(0, Ordering::AcqRel));
        }
    }

    fn resolve(
        &mut self,
        recorder: &impl Recorder,
        counters: &TaskCounters,
        event: Event,
    ) -> Counter {
        let task = self.task(&counters.task);
        match event {
            Event::Request(rpc, code) => {
                let labels = [("code", code.as_str()), ("rpc", rpc.as_str()), ("task", task)];
                REQUESTS.counter(recorder, &labels)
            }
            Event::Verdict(class, decision) => {
                let label = self.label(task, &counters.labels[class]);
                let labels = [("decision", decision.as_str()), ("label", label), ("task", task)];
                VERDICTS.counter(recorder, &labels)
            }
        }
    }

    fn task<'a>(&mut self, task: &'a str) -> &'a str {
        if self.labels_by_task.contains_key(task) {
            return task;
        }
        if self.labels_by_task.len() > MAX_TASKS {
            return OTHER;
        }
        self.labels_by_task.insert(task.into(), HashSet::new());
        task
    }

    fn label<'a>(&mut self, task: &str, label: &'a str) -> &'a str {
        let Some(known) = self.labels_by_task.get_mut(task) else { return OTHER };
        if known.contains(label) {
            return label;
        }
        if known.len() >= MAX_LABELS {
            return OTHER;
        }
        known.insert(label.into());
        label
    }
}
