//! Names to suggest for a task that is unknown, at a bounded rate and off the runtime's workers.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::request::RequestError;
use crate::{ids::TaskName, registry::HeadTable};

/// Names suggested for an unknown task.
const NAMES: usize = 3;
/// Errors a second that come with names.
const RATE: u32 = 20;
/// Errors that come with names at once after a quiet time.
const BURST: u32 = 20;

/// Looks up suggestions.
///
/// Guarantees:
/// 1. At most [`RATE`] look-ups a second, and [`BURST`] at once: a caller that asks for unknown
///    tasks in a loop costs no more. Beyond, the error comes without names.
/// 2. No worker of the runtime builds the index of names or searches in it.
#[derive(Debug, Default)]
pub struct Suggestions {
    /// When the look-ups granted so far would have ended at [`RATE`].
    paid_until: Mutex<Option<Instant>>,
}

impl Suggestions {
    /// Returns the error for a task that the table does not have, with names that are near.
    pub(super) async fn unknown_task(&self, task: TaskName, table: Arc<HeadTable>) -> RequestError {
        if !self.grants(Instant::now()) {
            return RequestError::UnknownTask { task, nearest: Vec::new() };
        }
        let asked = task.clone();
        let search = tokio::task::spawn_blocking(move || table.nearest(&asked, NAMES));
        // Names are a courtesy: a search that panicked finds none.
        RequestError::UnknownTask { task, nearest: search.await.unwrap_or_default() }
    }

    /// The generic cell rate algorithm.
    fn grants(&self, now: Instant) -> bool {
        let each = Duration::from_secs(1) / RATE;
        let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        let next = paid_until.map_or(now, |paid| paid.max(now)) + each;
        let grants = next <= now + each * BURST;
        if grants {
            *paid_until = Some(next);
        }
        grants
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_is_granted_then_the_rate() {
        let (suggestions, now) = (Suggestions::default(), Instant::now());
        let granted = |at, asked| (0..asked).filter(|_| suggestions.grants(at)).count();
        assert_eq!(granted(now, 1_000), BURST as usize);
        assert_eq!(granted(now + Duration::from_millis(500), 1_000), RATE as usize / 2);
        assert_eq!(granted(now + Duration::from_secs(60), 1_000), BURST as usize);
    }
}
