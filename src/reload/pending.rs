//! Changes that are known and not yet visible, and when to show them.

use std::time::{Duration, Instant};

use crate::registry::Change;

/// Changes made visible together; with a larger batch, one table would hold too much at once.
const MOST_PENDING: usize = 256;

/// How long a change may wait for others: a table is copied once for all of them.
const MAX_WAIT: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
pub(super) struct Pending {
    changes: Vec<(Change, Instant)>,
    oldest: Option<Instant>,
}

impl Pending {
    /// Adds a change whose work began at `started`.
    pub(super) fn push(&mut self, change: Change, started: Instant, now: Instant) {
        self.changes.push((change, started));
        self.oldest.get_or_insert(now);
    }

    /// Returns whether the changes must be shown before something that takes so long.
    pub(super) fn are_due(&self, now: Instant, next_takes: Duration) -> bool {
        let Some(oldest) = self.oldest else { return false };
        let waited = now.saturating_duration_since(oldest);
        self.changes.len() >= MOST_PENDING || waited.saturating_add(next_takes) >= MAX_WAIT
    }

    pub(super) fn take(&mut self) -> Vec<(Change, Instant)> {
        self.oldest = None;
        std::mem::take(&mut self.changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn with_one(now: Instant) -> Pending {
        let mut pending = Pending::default();
        pending.push(Change::Withdraw { task: "part".parse().unwrap() }, now, now);
        pending
    }

    #[test]
    fn a_change_never_waits_longer_than_20_ms() {
        let start = Instant::now();
        let mut pending = with_one(start);
        assert!(!pending.are_due(start + 10 * MS, 5 * MS));
        assert!(pending.are_due(start + 10 * MS, 10 * MS), "the next check would end too late");
        assert!(pending.are_due(start + 20 * MS, Duration::ZERO));
        pending.push(
            Change::Withdraw { task: "other".parse().unwrap() },
            start + 19 * MS,
            start + 19 * MS,
        );
        assert!(pending.are_due(start + 20 * MS, Duration::ZERO), "the first one counts");
    }

    #[test]
    fn nothing_is_due_once_it_was_taken() {
        let start = Instant::now();
        let mut pending = with_one(start);
        assert_eq!(pending.take().len(), 1);
        assert!(!pending.are_due(start + 60 * MS, Duration::MAX));
    }

    #[test]
    fn many_changes_are_due_at_once() {
        let start = Instant::now();
        let mut pending = Pending::default();
        for _ in 0..MOST_PENDING {
            pending.push(Change::Withdraw { task: "part".parse().unwrap() }, start, start);
        }
        assert!(pending.are_due(start, Duration::ZERO));
    }
}
