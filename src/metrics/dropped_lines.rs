//! The count of dropped log lines, which begins before there are metrics to show it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// A count of dropped log lines, shared by its clones: the log counts and the metrics show.
#[derive(Debug, Clone, Default)]
pub struct DroppedLines(Arc<AtomicU64>);

impl DroppedLines {
    pub fn add(&self, lines: u64) {
        self.0.fetch_add(lines, Ordering::Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
