//! Hints that the folder may have changed; they trigger a scan but carry no content.

use std::{
    collections::HashMap,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    time::{Duration, Instant},
};

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hint {
    Scan,
    Stop,
}

/// When to scan: periodically, and after events with a debounce.
#[derive(Debug, Clone, Copy)]
pub(super) struct Debounce {
    /// Interval without hints, for where file events do not arrive (NFS, other nodes).
    pub(super) rescan: Duration,
    /// Debounce: quiet period after the last event.
    pub(super) quiet: Duration,
    /// Longest debounce after the first event.
    pub(super) max_delay: Duration,
}

/// Receives file system events and the request to stop.
#[derive(Debug)]
pub(super) struct Hints {
    root: PathBuf,
    watcher: Option<RecommendedWatcher>,
    /// By path, the device and inode: a watch follows a folder that was renamed or unmounted.
    watched: HashMap<PathBuf, (u64, u64)>,
    hints: Receiver<Hint>,
}

impl Hints {
    /// Returns the hints for a folder and a sender of further hints.
    pub(super) fn new(root: PathBuf) -> (Self, Sender<Hint>) {
        let (sender, hints) = channel();
        let on_event = {
            let sender = sender.clone();
            move |result: notify::Result<Event>| {
                // Reading a head is an event too: without this, each scan would trigger the next.
                let is_read = result.is_ok_and(|event| matches!(event.kind, EventKind::Access(_)));
                if !is_read {
                    // Fails only while the server stops.
                    let _stopped = sender.send(Hint::Scan);
                }
            }
        };
        let watcher = notify::recommended_watcher(on_event)
            .inspect_err(|error| {
                tracing::warn!(%error, "no file events; new heads are found by rescans only");
            })
            .ok();
        (Self { root, watcher, watched: HashMap::new(), hints }, sender)
    }

    /// Watches the root and every current task folder.
    pub(super) fn update_watches(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let folders: HashMap<PathBuf, (u64, u64)> =
            task_folders(&self.root).chain([self.root.clone()]).filter_map(with_identity).collect();
        for (folder, identity) in &self.watched {
            if folders.get(folder) != Some(identity) {
                // The system may have removed the watch together with the folder.
                let _already_gone = watcher.unwatch(folder);
            }
        }
        for (folder, identity) in &folders {
            if self.watched.get(folder) != Some(identity)
                && let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive)
            {
                let folder = folder.display();
                tracing::debug!(%error, %folder, "no file events for this folder");
            }
        }
        self.watched = folders;
    }

    /// Waits until the next scan is due, or until the end.
    pub(super) fn wait(&self, debounce: Debounce) -> Hint {
        match self.hints.recv_timeout(debounce.rescan) {
            Err(RecvTimeoutError::Timeout) => return Hint::Scan,
            Err(RecvTimeoutError::Disconnected) | Ok(Hint::Stop) => return Hint::Stop,
            Ok(Hint::Scan) => {}
        }
        let latest = Instant::now() + debounce.max_delay;
        while Instant::now() < latest {
            match self.hints.recv_timeout(debounce.quiet) {
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) | Ok(Hint::Stop) => return Hint::Stop,
                Ok(Hint::Scan) => {}
            }
        }
        Hint::Scan
    }
}

fn task_folders(root: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs_err::read_dir(root).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir())
}

fn with_identity(folder: PathBuf) -> Option<(PathBuf, (u64, u64))> {
    let metadata = fs_err::metadata(&folder).ok()?;
    Some((folder, (metadata.dev(), metadata.ino())))
}
