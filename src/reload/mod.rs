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
//! 7. What may pass (an unreadable file, a busy device) rejects a head for a while only: it is
//!    tried again with growing pauses. Only what the bytes of files prove rejects until the file
//!    changes.
//! 8. A head that is ready is visible within 20 ms, also while others are checked.
//! 9. A panic ends the scan, not the thread: it scans again after a pause. A panic over one file
//!    rejects that file for a while and ends nothing.
//! 10. A scan that is told to stop ends after the file that it is checking.

mod head_checker;
mod installer;
mod plan;
mod progress;
mod reconciler;
mod watcher;

pub use progress::{ReloadProgress, ReloadStatus};
pub use reconciler::Reconciler;

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc::Sender},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use installer::Installer;
use watcher::{Debounce, Hint, Hints};

/// The pause after a scan that panicked; the next one is likely to panic as well.
const PAUSE_AFTER_PANIC: Duration = Duration::from_secs(1);

/// The reconciling thread, which stops when this is dropped.
#[derive(Debug)]
pub struct Reloader {
    hints: Sender<Hint>,
    progress: Arc<ReloadProgress>,
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
        let progress = reconciler.progress().clone();
        let debounce = Debounce {
            rescan,
            quiet: Duration::from_millis(20),
            max_delay: Duration::from_millis(250),
        };
        let installer = reconciler.installer().clone();
        let end = OnEnd { progress: progress.clone(), installer: installer.clone() };
        let work = move || {
            let OnEnd { progress, .. } = &end;
            loop {
                let scan = catch_unwind(AssertUnwindSafe(|| {
                    // Watches start before the scan, so that a change during it triggers the next.
                    watcher.update_watches();
                    reconciler.scan();
                    after_scan(&reconciler);
                }));
                if progress.is_stopped() {
                    return;
                }
                let next = match scan {
                    Ok(()) => {
                        let now = Instant::now();
                        progress.scanned(now);
                        let retry = reconciler.next_retry().map(|at| at.duration_since(now));
                        watcher.wait(debounce.within(retry))
                    }
                    Err(_panic) => {
                        let pause = PAUSE_AFTER_PANIC;
                        tracing::error!(?pause, "a scan panicked, scanning again");
                        watcher.wait(debounce.within(Some(PAUSE_AFTER_PANIC)))
                    }
                };
                if next == Hint::Stop {
                    return;
                }
            }
        };
        let install = thread::Builder::new().name("install".to_owned());
        install.spawn(move || {
            while catch_unwind(AssertUnwindSafe(|| installer.run())).is_err() {
                tracing::error!("installing heads panicked, it goes on");
            }
        })?;
        // If this fails, its work is dropped, which ends the thread before.
        let thread = thread::Builder::new().name("reload".to_owned()).spawn(work)?;
        Ok(Self { hints, progress, thread: Some(thread) })
    }

    /// Scans as after an event.
    pub fn scan_now(&self) {
        // Fails only if the thread has already ended.
        let _ended = self.hints.send(Hint::Scan);
    }

    /// Tells the thread to end, in the middle of a scan if need be, and returns at once.
    pub fn stop(&self) {
        self.progress.stop();
        // Fails only if the thread has already ended.
        let _ended = self.hints.send(Hint::Stop);
    }

    /// Returns what tells how far the thread is.
    pub fn progress(&self) -> &Arc<ReloadProgress> {
        &self.progress
    }
}

/// Reports the end of the thread, however it ends, and ends the one that installs.
struct OnEnd {
    progress: Arc<ReloadProgress>,
    installer: Arc<Installer>,
}

impl Drop for OnEnd {
    fn drop(&mut self) {
        self.progress.thread_ends();
        self.installer.close();
    }
}

impl Drop for Reloader {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("reload thread panicked");
        }
    }
}
