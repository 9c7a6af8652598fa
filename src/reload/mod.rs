//! Keeps the registry as the folder of heads says: look at everything, plan, load, install.
//!
//! Guarantees:
//! 1. Any event in the folder, and every interval without one, leads to a look at the whole folder. Events are hints:
//!    what they say is never used.
//! 2. The newest version that validates serves. A file that does not validate changes nothing for callers; it is
//!    listed with the reason, counted and logged once, and looked at again only when it changes.
//! 3. A folder that is lost or cannot be read removes nothing. A task is withdrawn only when its folder is there,
//!    readable and without any version.
//! 4. A version's content never changes: a file that was replaced under the same number is rejected.
//! 5. A head is installed only if the base gives, for the pictures that it carries, what the trainer's base gave.
//! 6. Heads that were replaced are dropped on this thread once no request holds them.

mod head_checker;
mod plan;
mod reconciler;
mod watcher;

pub use reconciler::Reconciler;

use std::{
    io,
    sync::mpsc::Sender,
    thread::{self, JoinHandle},
    time::Duration,
};

use watcher::{Debounce, Hint, Hints};

/// The thread that reconciles; it ends when this is dropped.
#[derive(Debug)]
pub struct Reloader {
    hints: Sender<Hint>,
    thread: Option<JoinHandle<()>>,
}

impl Reloader {
    /// Makes the first look at once, then one after every event and at least one every `rescan`. Calls `after_scan`
    /// after each.
    ///
    /// # Errors
    /// If the system has no thread left.
    pub fn start(
        mut reconciler: Reconciler,
        rescan: Duration,
        mut after_scan: impl FnMut(&Reconciler) + Send + 'static,
    ) -> io::Result<Self> {
        let (mut watcher, hints) = Hints::new(reconciler.root().to_owned());
        let debounce = Debounce {
            longest: rescan,
            quiet: Duration::from_millis(20),
            most_quiet: Duration::from_millis(250),
        };
        let work = move || {
            loop {
                // Watching begins before looking: what changes meanwhile is a hint for the next look.
                watcher.watch_again();
                reconciler.scan();
                after_scan(&reconciler);
                if watcher.wait(debounce) == Hint::Stop {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("reload".to_owned()).spawn(work)?;
        Ok(Self { hints, thread: Some(thread) })
    }
}

impl Drop for Reloader {
    fn drop(&mut self) {
        // A thread that has ended by itself needs no telling.
        let _ended = self.hints.send(Hint::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the reload thread ended by a panic");
        }
    }
}
