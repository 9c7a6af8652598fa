//! When the folder was scanned last, for whoever watches over the reload thread.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// How far the reload thread is. Shared by the thread, which writes, and its watchers.
#[derive(Debug)]
pub struct ReloadProgress {
    times: Mutex<Times>,
    stopped: AtomicBool,
    ended: AtomicBool,
}

#[derive(Debug)]
struct Times {
    scanned_at: Instant,
    moved_at: Instant,
}

/// How the reload thread is at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReloadStatus {
    /// Time since a scan ended, or since the start if none has.
    pub scan_age: Duration,
    /// Time since the thread last got on: it ended a scan or was done with a task.
    pub still: Duration,
    /// The thread ended though nobody told it to.
    pub ended: bool,
}

impl ReloadProgress {
    pub(super) fn new(now: Instant) -> Self {
        let times = Mutex::new(Times { scanned_at: now, moved_at: now });
        Self { times, stopped: AtomicBool::new(false), ended: AtomicBool::new(false) }
    }

    pub fn status(&self, now: Instant) -> ReloadStatus {
        let times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        ReloadStatus {
            scan_age: now.saturating_duration_since(times.scanned_at),
            still: now.saturating_duration_since(times.moved_at),
            ended: self.ended.load(Ordering::Acquire),
        }
    }

    /// A part of a scan is done.
    pub(super) fn moved(&self, now: Instant) {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).moved_at = now;
    }

    /// A scan ended, whatever it found.
    pub(super) fn scanned(&self, now: Instant) {
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        *times = Times { scanned_at: now, moved_at: now };
    }

    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// The thread ends; a failure unless it was told to stop.
    pub(super) fn thread_ends(&self) {
        if !self.is_stopped() {
            self.ended.store(true, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_long_scan_that_gets_on_is_not_still() {
        let start = Instant::now();
        let progress = ReloadProgress::new(start);
        progress.scanned(start + SECOND);
        progress.moved(start + 9 * SECOND);
        let expected = ReloadStatus { scan_age: 9 * SECOND, still: SECOND, ended: false };
        assert_eq!(progress.status(start + 10 * SECOND), expected);
    }

    #[test]
    fn only_a_thread_that_nobody_stopped_has_failed_when_it_ends() {
        let now = Instant::now();
        let stopped = ReloadProgress::new(now);
        stopped.stop();
        stopped.thread_ends();
        assert!(!stopped.status(now).ended);
        let died = ReloadProgress::new(now);
        died.thread_ends();
        assert!(died.status(now).ended);
    }
}
