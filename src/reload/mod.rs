//! Makes the registry match the folder of heads: scan, plan, load, install.
//!
//! Guarantees:
//! 1. Any event in the folder, and every interval without one, triggers a scan of the whole folder.
//!    Events are hints: their content is never used.
//! 2. The newest valid version serves. An invalid file changes nothing for callers: it is listed
//!    with the reason, counted and logged once, and retried only when it changes.
//! 3. A folder that is gone or unreadable removes nothing. A task is withdrawn only when its folder
//!    exists, is readable and holds no version.
//! 4. A version's content never changes: a file replaced under the same number is rejected.
//! 5. A head is installed only if the base reproduces the trainer's features of the head's
//!    reference pictures, within the tolerance of the arithmetic.
//! 6. Replaced heads are dropped on this thread once no request holds them.

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

/// The reconciling thread, which stops when this is dropped.
#[derive(Debug)]
pub struct Reloader {
    hints: Sender<Hint>,
    thread: Option<JoinHandle<()>>,
}

impl Reloader {
    /// Scans at once, then after every event and at least every `rescan`.
    ///
    /// Calls `after_scan` after each scan.
    ///
    /// # Errors
    /// If the system cannot start a thread.
    pub fn start(
        mut reconciler: Reconciler,
        rescan: Duration,
        mut after_scan: impl FnMut(&Reconciler) + Send + 'static,
    ) -> io::Result<Self> {
        let (mut watcher, hints) = Hints::new(reconciler.root().to_owned());
        let debounce = Debounce {
            rescan,
            quiet: Duration::from_millis(20),
            max_delay: Duration::from_millis(250),
        };
        let work = move || {
            loop {
                // Watches start before the scan, so that a change during it triggers the next scan.
                watcher.update_watches();
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

    /// Scans as after an event.
    pub fn scan_now(&self) {
        // Fails only if the thread has already ended.
        let _ended = self.hints.send(Hint::Scan);
    }
}

impl Drop for Reloader {
    fn drop(&mut self) {
        // Fails only if the thread has already ended.
        let _ended = self.hints.send(Hint::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("reload thread panicked");
        }
    }
}
