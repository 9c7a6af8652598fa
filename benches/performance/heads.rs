//! Heads of random numbers, published as `fine-tune` does, and swapped at a steady rate.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use turret::{
    atomic_file,
    base::{BaseIdentity, FeatureSet, FeatureWidths},
    head::{Class, DecisionRule, HeadContent, Linear, ReferenceSet},
    ids::{TaskName, Version},
    image::{Preprocess, Resize},
    store::{HeadDraft, HeadStore},
};

const CLASSES: usize = 10;

/// The heads of one folder: tasks `task-0000`, `task-0001` ..., all on `gap`.
#[derive(Debug, Clone)]
pub(crate) struct Heads {
    root: PathBuf,
    base: BaseIdentity,
    width: usize,
    side: u32,
    /// The version of every task; tasks are swapped in turn.
    version: Version,
    pub(crate) tasks: usize,
}

pub(crate) fn task_name(number: usize) -> String {
    format!("task-{number:04}")
}

impl Heads {
    /// Publishes version 1 of every task.
    pub(crate) fn publish(
        root: &Path,
        base: BaseIdentity,
        widths: FeatureWidths,
        side: u32,
        tasks: usize,
    ) -> Result<Self> {
        let heads = Self {
            root: root.to_owned(),
            base,
            width: widths.of(FeatureSet::Gap),
            side,
            version: 1,
            tasks,
        };
        let store = HeadStore::new(root);
        for number in 0..tasks {
            store.publish(&heads.draft(number)?)?;
        }
        Ok(heads)
    }

    /// Returns the file of every task's next version, in task order.
    fn next_version(&mut self) -> Result<Vec<(PathBuf, Vec<u8>)>> {
        self.version += 1;
        let file = |number| {
            let content = self.content(number)?;
            let name = format!("{:08}.safetensors", self.version);
            anyhow::Ok((self.root.join(content.task.as_str()).join(name), content.to_bytes()?))
        };
        (0..self.tasks).map(file).collect()
    }

    /// Publishes a new version of every task as fast as possible, and returns their number.
    pub(crate) fn swap_all(&mut self) -> Result<usize> {
        let files = self.next_version()?;
        for (path, bytes) in &files {
            atomic_file::write_new(path, bytes)?;
        }
        Ok(files.len())
    }

    /// Starts publishing new versions at a steady rate, from files made beforehand.
    pub(crate) fn swap_steadily(&mut self, a_second: f64, time: Duration) -> Result<Swapper> {
        let count = (a_second * time.as_secs_f64()) as usize;
        let mut files = Vec::new();
        while files.len() < count {
            files.extend(self.next_version()?);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let work = move || {
            let begun = Instant::now();
            for (number, (path, bytes)) in files.iter().enumerate() {
                let due = begun + Duration::from_secs_f64(number as f64 / a_second);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                if stopped.load(Ordering::Relaxed) {
                    return Ok(number);
                }
                atomic_file::write_new(path, bytes)?;
            }
            Ok(files.len())
        };
        Ok(Swapper { stop, thread: std::thread::spawn(work) })
    }

    fn draft(&self, number: usize) -> Result<HeadDraft> {
        let content = self.content(number)?;
        Ok(HeadDraft {
            task: content.task,
            created_at: content.created_at,
            base: content.base,
            features: content.features,
            preprocess: content.preprocess,
            classes: content
                .classes
                .iter()
                .map(|class| (class.label.to_string(), class.good))
                .collect(),
            decision: content.decision,
            evidence: content.evidence,
            provenance: content.provenance,
            linear: content.linear,
            branch: content.branch,
            arithmetic: content.arithmetic,
            reference: content.reference,
        })
    }

    fn content(&self, number: usize) -> Result<HeadContent> {
        let task: TaskName = task_name(number).parse()?;
        let mut random = ChaCha8Rng::seed_from_u64(self.version << 32 | number as u64);
        let weight = (0..CLASSES * self.width).map(|_| random.random_range(-0.1..0.1)).collect();
        let class = |code| Class { label: format!("class-{code}").into(), code, good: code == 1 };
        Ok(HeadContent {
            task,
            version: self.version,
            created_at: "2026-01-01T00:00:00Z".to_owned(),
            base: self.base.clone(),
            features: FeatureSet::Gap,
            branch: None,
            preprocess: Preprocess {
                resize: Resize::Stretch { size: self.side },
                ..Preprocess::default()
            },
            classes: (1..=CLASSES as u32).map(class).collect(),
            decision: DecisionRule::uniform(0.5, CLASSES),
            evidence: serde_json::Value::Null,
            provenance: serde_json::Value::Null,
            linear: Linear::new(weight, vec![0.0; CLASSES], self.width)?,
            arithmetic: "fp32".to_owned(),
            reference: ReferenceSet::default(),
        })
    }
}

/// A thread that publishes beside the load until it is stopped.
#[derive(Debug)]
pub(crate) struct Swapper {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<std::io::Result<usize>>,
}

impl Swapper {
    /// Stops publishing and returns the number of versions published.
    pub(crate) fn stop(self) -> Result<usize> {
        self.stop.store(true, Ordering::Relaxed);
        Ok(self.thread.join().map_err(|_| anyhow!("the publishing thread panicked"))??)
    }
}
