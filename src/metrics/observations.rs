//! Histograms whose observations a concurrent drain cannot lose.

use std::sync::{
    Arc, Mutex, PoisonError, RwLock, TryLockError,
    mpsc::{self, Receiver, Sender},
};

use ::metrics::IntoF64;

/// Separates observing from draining.
///
/// The `AtomicBucket` of metrics-util (0.20) shows a new block of observations before it links the
/// earlier ones to it: a drain in between loses them all.
///
/// Guarantees under concurrent use:
/// 1. An observation never waits: one made during a drain is set aside, without a lock held by it.
/// 2. No drain overlaps an observation or another drain.
/// 3. Every observation arrives exactly once: with the drain that follows it, or, if it was made
///    during a drain, with the next one.
#[derive(Debug)]
pub(super) struct Observations {
    draining: Arc<RwLock<()>>,
    aside: Sender<Aside>,
    /// Locked by drains only.
    set_aside: Mutex<Receiver<Aside>>,
}

/// An observation made during a drain.
#[derive(Debug)]
struct Aside {
    series: ::metrics::Histogram,
    value: f64,
}

/// A histogram of one series.
#[derive(Debug)]
pub struct Histogram {
    series: ::metrics::Histogram,
    draining: Arc<RwLock<()>>,
    aside: Sender<Aside>,
}

impl Observations {
    pub(super) fn new() -> Self {
        let (aside, set_aside) = mpsc::channel();
        Self { draining: Arc::default(), aside, set_aside: Mutex::new(set_aside) }
    }

    pub(super) fn histogram(&self, series: ::metrics::Histogram) -> Histogram {
        Histogram { series, draining: self.draining.clone(), aside: self.aside.clone() }
    }

    /// Runs `drain`, which takes the observations out of their series, while none are made.
    pub(super) fn drain<T>(&self, drain: impl FnOnce() -> T) -> T {
        let set_aside = self.set_aside.lock().unwrap_or_else(PoisonError::into_inner);
        // Before the lock, because from then on further ones are set aside.
        for Aside { series, value } in set_aside.try_iter() {
            series.record(value);
        }
        let _draining = self.draining.write().unwrap_or_else(PoisonError::into_inner);
        drain()
    }
}

impl Histogram {
    pub fn record(&self, value: impl IntoF64) {
        match self.draining.try_read() {
            Ok(_observing) => self.series.record(value),
            // Poison means that a drain panicked; what it left is still there.
            Err(TryLockError::Poisoned(_observing)) => self.series.record(value),
            Err(TryLockError::WouldBlock) => {
                let aside = Aside { series: self.series.clone(), value: value.into_f64() };
                // The receiver outlives every drain; without one nobody reads the value.
                let _received = self.aside.send(aside);
            }
        }
    }
}
