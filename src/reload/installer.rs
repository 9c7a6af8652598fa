//! Makes known changes visible, a moment after the first of them.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    head::Head,
    metrics::Metrics,
    registry::{Change, Registry},
};

/// Changes made visible together, at most.
const MOST_PENDING: usize = 256;

/// How long a change may wait for others: the table is copied once for all of them.
const MAX_WAIT: Duration = Duration::from_millis(20);

/// Applies the changes that the reload thread finds.
///
/// Guarantees:
/// 1. Changes become visible in the order in which they were pushed, each once.
/// 2. While [`run`](Self::run) runs, none waits longer than 20 ms, whatever the reload thread is
///    waiting for.
/// 3. Replaced heads are kept until the reload thread takes them.
#[derive(Debug)]
pub(super) struct Installer {
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    pending: Pending,
    retired: Vec<Arc<Head>>,
    closed: bool,
}

/// Changes that are known and not yet visible.
#[derive(Debug, Default)]
struct Pending {
    /// With the time when the work on each began.
    changes: Vec<(Change, Instant)>,
    oldest: Option<Instant>,
}

impl Installer {
    pub(super) fn new(registry: Arc<Registry>, metrics: Arc<Metrics>) -> Self {
        Self { registry, metrics, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Makes a change, whose work began at `started`, visible soon.
    pub(super) fn push(&self, change: Change, started: Instant) {
        let mut state = self.state();
        state.pending.push(change, started, Instant::now());
        if state.pending.is_full() {
            self.apply(&mut state);
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Makes all changes visible now.
    pub(super) fn apply_all(&self) {
        self.apply(&mut self.state());
    }

    pub(super) fn take_retired(&self) -> Vec<Arc<Head>> {
        std::mem::take(&mut self.state().retired)
    }

    /// Applies changes when they are due, until [`close`](Self::close).
    pub(super) fn run(&self) {
        let mut state = self.state();
        while !state.closed {
            let Some(due) = state.pending.due() else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                self.apply(&mut state);
            } else {
                let waited = self.changed.wait_timeout(state, left);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    /// Under the lock, so that no later change overtakes these.
    fn apply(&self, state: &mut State) {
        let (changes, started): (Vec<_>, Vec<_>) = state.pending.take().into_iter().unzip();
        let installs =
            changes.iter().zip(&started).filter(|(change, _)| matches!(change, Change::Install(_)));
        let installs: Vec<Instant> = installs.map(|(_, started)| *started).collect();
        state.retired.extend(self.registry.apply(changes, unix_ms()));
        for started in installs {
            self.metrics.head_install_duration.record(started.elapsed());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn push(&mut self, change: Change, started: Instant, now: Instant) {
        self.changes.push((change, started));
        self.oldest.get_or_insert(now);
    }

    fn is_full(&self) -> bool {
        self.changes.len() >= MOST_PENDING
    }

    /// Returns when the changes must be visible.
    fn due(&self) -> Option<Instant> {
        self.oldest.map(|oldest| oldest + MAX_WAIT)
    }

    fn take(&mut self) -> Vec<(Change, Instant)> {
        self.oldest = None;
        std::mem::take(&mut self.changes)
    }
}

pub(super) fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn withdrawal() -> Change {
        Change::Withdraw { task: "part".parse().unwrap() }
    }

    #[test]
    fn first_of_the_changes_says_when_all_are_due() {
        let start = Instant::now();
        let mut pending = Pending::default();
        assert_eq!(pending.due(), None);
        pending.push(withdrawal(), start, start);
        pending.push(withdrawal(), start, start + 19 * MS);
        assert_eq!(pending.due(), Some(start + 20 * MS));
        assert_eq!(pending.take().len(), 2);
        assert_eq!(pending.due(), None);
    }

    #[test]
    fn many_changes_are_not_waited_for() {
        let start = Instant::now();
        let mut pending = Pending::default();
        for _ in 1..MOST_PENDING {
            pending.push(withdrawal(), start, start);
        }
        assert!(!pending.is_full());
        pending.push(withdrawal(), start, start);
        assert!(pending.is_full());
    }
}
