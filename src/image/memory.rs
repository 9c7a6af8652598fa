//! The memory that decoding takes, bounded over all pictures that are decoded at a time.

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

/// Bytes that all decoding together may hold.
///
/// Guarantees:
/// 1. The shares never hold more than the budget together, but for a picture that needs more than
///    all of it: that one is decoded alone.
/// 2. Shares are granted in the order in which they were asked for: many small pictures do not keep
///    a large one waiting for ever.
/// 3. A share waits for no more than the decoding that others have begun; whoever holds one never
///    asks for another.
#[derive(Debug)]
pub struct DecodeBudget {
    bytes: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    held: u64,
    next_ticket: u64,
    /// The ticket that is granted next.
    turn: u64,
}

/// What one thread holds of a [`DecodeBudget`]; given back when dropped.
#[derive(Debug)]
pub struct DecodeShare {
    budget: Arc<DecodeBudget>,
    held: Mutex<u64>,
}

/// Where a decoder takes its memory from; by default from anywhere.
#[derive(Clone, Default)]
pub struct DecodeMemory(Option<Arc<DecodeShare>>);

impl DecodeBudget {
    pub fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self { bytes, state: Mutex::default(), changed: Condvar::new() })
    }

    /// Returns an empty share, for one thread.
    pub fn share(self: &Arc<Self>) -> Arc<DecodeShare> {
        Arc::new(DecodeShare { budget: self.clone(), held: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DecodeShare {
    /// Takes these bytes instead of what it held; blocks until they are there.
    fn take(&self, bytes: u64) {
        self.give_back();
        let mut state = self.budget.state();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        let has_room = |state: &State| {
            state.held == 0 || state.held.saturating_add(bytes) <= self.budget.bytes
        };
        while state.turn != ticket || !has_room(&state) {
            state = self.budget.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.held = state.held.saturating_add(bytes);
        state.turn += 1;
        drop(state);
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = bytes;
        self.budget.changed.notify_all();
    }

    /// Gives back what it holds: the picture is gone.
    pub fn give_back(&self) {
        let held = std::mem::take(&mut *self.held.lock().unwrap_or_else(PoisonError::into_inner));
        if held > 0 {
            self.budget.state().held -= held;
            self.budget.changed.notify_all();
        }
    }
}

impl Drop for DecodeShare {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl DecodeMemory {
    /// Takes the memory of each picture from this share, in place of that of the one before.
    pub fn of(share: Arc<DecodeShare>) -> Self {
        Self(Some(share))
    }

    pub(super) fn take(&self, bytes: u64) {
        if let Some(share) = &self.0 {
            share.take(bytes);
        }
    }
}

/// All are equal: limits are the same limits, whoever counts the memory.
impl PartialEq for DecodeMemory {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for DecodeMemory {}

impl fmt::Debug for DecodeMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "DecodeMemory(bounded)" } else { "DecodeMemory" })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU64, Ordering},
        thread,
    };

    use super::*;
    use crate::image::{ImageLimits, ImageSource, decode};

    #[test]
    fn shares_never_hold_more_than_the_budget_together() {
        let budget = DecodeBudget::new(100);
        let (held, most) = (AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            for number in 1..=8u64 {
                let (budget, held, most) = (&budget, &held, &most);
                scope.spawn(move || {
                    let share = budget.share();
                    for turn in 0..200 {
                        let bytes = 1 + number * 37 * turn % 60;
                        share.take(bytes);
                        let now = held.fetch_add(bytes, Ordering::SeqCst) + bytes;
                        most.fetch_max(now, Ordering::SeqCst);
                        held.fetch_sub(bytes, Ordering::SeqCst);
                        share.give_back();
                    }
                });
            }
        });
        assert!(most.into_inner() <= 100);
        assert_eq!(budget.state().held, 0);
    }

    #[test]
    fn picture_of_more_than_the_budget_is_decoded_alone() {
        let budget = DecodeBudget::new(100);
        let (large, small) = (budget.share(), budget.share());
        large.take(1_000);
        thread::scope(|scope| {
            let waits = scope.spawn(|| small.take(1));
            while budget.state().next_ticket < 2 {
                thread::yield_now();
            }
            assert!(!waits.is_finished(), "nothing beside it");
            large.give_back();
        });
        assert_eq!(budget.state().held, 1);
    }

    #[test]
    fn decoder_takes_what_the_header_says() {
        let budget = DecodeBudget::new(1 << 30);
        let share = budget.share();
        let limits =
            ImageLimits { memory: DecodeMemory::of(share.clone()), ..ImageLimits::default() };
        let mut png = std::io::Cursor::new(Vec::new());
        image::RgbImage::new(40, 30).write_to(&mut png, image::ImageFormat::Png).unwrap();
        decode(&ImageSource::Encoded(png.into_inner().into()), &limits).unwrap();
        assert_eq!(budget.state().held, 40 * 30 * 3, "until the picture is gone");
        drop((limits, share));
        assert_eq!(budget.state().held, 0);
    }
}
