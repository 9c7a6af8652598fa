//! What the device is busy with and since when, so that work that hangs can be told.

use std::{
    collections::VecDeque,
    sync::Mutex,
    time::{Duration, Instant},
};

use super::queue::lock;

/// The work that the device thread has begun and not ended, oldest first.
#[derive(Debug, Default)]
pub(super) struct DeviceProgress(Mutex<Work>);

#[derive(Debug, Default)]
struct Work {
    begun: VecDeque<Begun>,
    /// When work ended last.
    ended_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Begun {
    at: Instant,
    expected: Duration,
}

/// A forward pass, or background work, that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunningWork {
    pub age: Duration,
    /// How long it takes as a rule; zero if nothing is known.
    pub expected: Duration,
}

/// How the engine is at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EngineStatus {
    /// Several forward passes failed in a row; the next one that succeeds ends this.
    pub device_lost: bool,
    /// The device thread ended by a panic: nothing is computed any more.
    pub device_ended: bool,
    /// The oldest work that the device has not ended.
    pub running: Option<RunningWork>,
    /// How long nothing has left the queue, though images wait in it and the device is idle or no
    /// picture is decoded.
    pub stalled: Option<Duration>,
}

impl DeviceProgress {
    pub(super) fn begin(&self, expected: Duration, now: Instant) {
        lock(&self.0).begun.push_back(Begun { at: now, expected });
    }

    /// Ends the oldest work.
    pub(super) fn end(&self, now: Instant) {
        let mut work = lock(&self.0);
        work.begun.pop_front();
        work.ended_at = Some(now);
    }

    /// Returns since when the device has waited for work that came at `since`; `None` while it
    /// is busy.
    pub(super) fn idle_since(&self, since: Instant) -> Option<Instant> {
        let work = lock(&self.0);
        let ended_at = work.ended_at.unwrap_or(since);
        work.begun.is_empty().then_some(ended_at.max(since))
    }

    pub(super) fn oldest(&self, now: Instant) -> Option<RunningWork> {
        let &Begun { at, expected } = lock(&self.0).begun.front()?;
        Some(RunningWork { age: now.saturating_duration_since(at), expected })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_work_in_flight_gives_the_age() {
        const SECOND: Duration = Duration::from_secs(1);
        let (progress, start) = (DeviceProgress::default(), Instant::now());
        assert_eq!(progress.oldest(start), None);
        progress.begin(3 * SECOND, start);
        progress.begin(4 * SECOND, start + SECOND);
        let work = |age, expected| Some(RunningWork { age, expected });
        assert_eq!(progress.oldest(start + 5 * SECOND), work(5 * SECOND, 3 * SECOND));
        progress.end(start + 5 * SECOND);
        assert_eq!(progress.oldest(start + 5 * SECOND), work(4 * SECOND, 4 * SECOND));
        assert_eq!(progress.idle_since(start), None);
        progress.end(start + 6 * SECOND);
        assert_eq!(progress.oldest(start + 7 * SECOND), None);
        assert_eq!(progress.idle_since(start), Some(start + 6 * SECOND), "it was busy until then");
        assert_eq!(progress.idle_since(start + 8 * SECOND), Some(start + 8 * SECOND));
    }
}
