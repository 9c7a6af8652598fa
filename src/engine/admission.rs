//! Who may come in: places bounded in images and in bytes.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU32, Ordering},
};

use tokio::sync::Notify;

use super::EngineError;
use crate::metrics::Metrics;

/// Forward passes that may fail in a row before the device counts as lost. It is tried again by the requests that are
/// still queued, and counts as found with the first success.
const FAILURES_UNTIL_LOST: u32 = 3;

#[derive(Debug)]
pub(super) struct Admission {
    max_images: usize,
    max_bytes: usize,
    usage: Mutex<Usage>,
    /// Told whenever the last place comes back.
    emptied: Notify,
    failures_in_a_row: AtomicU32,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Usage {
    images: usize,
    bytes: usize,
    closed: bool,
}

/// A share of the bounds, given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    admission: Arc<Admission>,
    images: usize,
    bytes: usize,
}

impl Admission {
    pub(super) fn new(max_images: usize, max_bytes: usize, metrics: Arc<Metrics>) -> Self {
        let (usage, emptied) = (Mutex::default(), Notify::new());
        Self { max_images, max_bytes, usage, emptied, failures_in_a_row: AtomicU32::new(0), metrics }
    }

    pub(super) fn try_reserve(self: &Arc<Self>, images: usize, bytes: usize) -> Result<Place, EngineError> {
        for (needed, limit, unit) in [(images, self.max_images, "images"), (bytes, self.max_bytes, "bytes")] {
            if needed > limit {
                return Err(EngineError::NeverFits { needed, limit, unit });
            }
        }
        let mut usage = self.usage();
        if usage.closed {
            return Err(EngineError::Draining);
        }
        // An idle server lets a request through to find out whether the device is back.
        if !self.device_works() && usage.images > 0 {
            return Err(EngineError::DeviceLost);
        }
        if usage.images + images > self.max_images {
            return Err(EngineError::QueueFull {
                needed: images,
                in_use: usage.images,
                limit: self.max_images,
            });
        }
        if usage.bytes + bytes > self.max_bytes {
            return Err(EngineError::BytesFull { needed: bytes, in_use: usage.bytes, limit: self.max_bytes });
        }
        usage.images += images;
        usage.bytes += bytes;
        self.show(&usage);
        Ok(Place { admission: self.clone(), images, bytes })
    }

    pub(super) fn stop_accepting(&self) {
        self.usage().closed = true;
    }

    pub(super) async fn drained(&self) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            // From here on a wake-up is not missed.
            emptied.as_mut().enable();
            if self.usage().images == 0 {
                return;
            }
            emptied.await;
        }
    }

    pub(super) fn device_works(&self) -> bool {
        self.failures_in_a_row.load(Ordering::Relaxed) < FAILURES_UNTIL_LOST
    }

    pub(super) fn forward_pass_ended(&self, well: bool) {
        if well {
            self.failures_in_a_row.store(0, Ordering::Relaxed);
        } else {
            let failures = self.failures_in_a_row.load(Ordering::Relaxed);
            self.failures_in_a_row.store(failures.saturating_add(1), Ordering::Relaxed);
        }
    }

    /// For good: there is no thread any more that could find the device again.
    pub(super) fn device_is_gone(&self) {
        self.failures_in_a_row.store(u32::MAX, Ordering::Relaxed);
    }

    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, usage: &Usage) {
        self.metrics.queue_images.set(usage.images as i64);
        self.metrics.queue_bytes.set(usage.bytes as i64);
    }
}

impl Place {
    pub(super) fn images(&self) -> usize {
        self.images
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut usage = self.admission.usage();
        usage.images -= self.images;
        usage.bytes -= self.bytes;
        self.admission.show(&usage);
        if usage.images == 0 {
            self.admission.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission() -> Arc<Admission> {
        Arc::new(Admission::new(3, 100, Arc::new(Metrics::new().unwrap())))
    }

    #[test]
    fn bounds_images_and_bytes_and_gives_both_back() {
        let admission = admission();
        let two = admission.try_reserve(2, 60).unwrap();
        assert!(matches!(
            admission.try_reserve(2, 1),
            Err(EngineError::QueueFull { in_use: 2, limit: 3, .. })
        ));
        assert!(matches!(admission.try_reserve(1, 41), Err(EngineError::BytesFull { in_use: 60, .. })));
        assert!(matches!(admission.try_reserve(1, 101), Err(EngineError::NeverFits { unit: "bytes", .. })));
        drop(two);
        assert!(admission.try_reserve(3, 100).is_ok());
    }

    #[tokio::test]
    async fn drained_returns_when_the_last_place_is_back() {
        let admission = admission();
        let place = admission.try_reserve(1, 1).unwrap();
        admission.stop_accepting();
        assert!(matches!(admission.try_reserve(1, 1), Err(EngineError::Draining)));
        let waiting = tokio::spawn({
            let admission = admission.clone();
            async move { admission.drained().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(place);
        waiting.await.unwrap();
    }

    #[test]
    fn a_lost_device_lets_one_request_through_to_find_it_again() {
        let admission = admission();
        for _ in 0..FAILURES_UNTIL_LOST {
            admission.forward_pass_ended(false);
        }
        let probe = admission.try_reserve(1, 1).unwrap();
        assert!(matches!(admission.try_reserve(1, 1), Err(EngineError::DeviceLost)));
        admission.forward_pass_ended(true);
        assert!(admission.try_reserve(1, 1).is_ok());
        drop(probe);
    }
}
