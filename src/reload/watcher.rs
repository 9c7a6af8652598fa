//! Hints that the folder may have changed. They say "look", never what to see.

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
    Look,
    Stop,
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Debounce {
    /// Without any hint, look after so long: the guarantee where file events do not reach (NFS, other nodes).
    pub(super) longest: Duration,
    /// Events come in crowds: look when there was none for so long,
    pub(super) quiet: Duration,
    /// but after so long in any case.
    pub(super) most_quiet: Duration,
}

/// Where file system events and requests for a look arrive.
#[derive(Debug)]
pub(super) struct Hints {
    root: PathBuf,
    watcher: Option<RecommendedWatcher>,
    /// Device and inode: a watch stays with a folder that was renamed away or unmounted.
    watched: HashMap<PathBuf, (u64, u64)>,
    hints: Receiver<Hint>,
}

impl Hints {
    /// Hints for a folder, and the way to give one.
    pub(super) fn new(root: PathBuf) -> (Self, Sender<Hint>) {
        let (sender, hints) = channel();
        let on_event = {
            let sender = sender.clone();
            move |result: notify::Result<Event>| {
                // Reading a head is an event too; a look that led to a look would never end.
                let is_read = result.is_ok_and(|event| matches!(event.kind, EventKind::Access(_)));
                if !is_read {
                    // Nobody listens any more when the server stops.
                    let _stopped = sender.send(Hint::Look);
                }
            }
        };
        let watcher = notify::recommended_watcher(on_event)
            .inspect_err(|error| tracing::warn!(%error, "no file events: new heads are found by rescan only"))
            .ok();
        (Self { root, watcher, watched: HashMap::new(), hints }, sender)
    }

    /// Watches the root and every task folder that there is now.
    pub(super) fn watch_again(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let folders: HashMap<PathBuf, (u64, u64)> =
            task_folders(&self.root).chain([self.root.clone()]).filter_map(with_identity).collect();
        for (folder, identity) in &self.watched {
            if folders.get(folder) != Some(identity) {
                // The system may have taken the watch away together with the folder.
                let _already_gone = watcher.unwatch(folder);
            }
        }
        for (folder, identity) in &folders {
            if self.watched.get(folder) != Some(identity)
                && let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive)
            {
                tracing::debug!(%error, folder = %folder.display(), "no file events for this folder");
            }
        }
        self.watched = folders;
    }

    /// Waits until it is time for a look, or for the end.
    pub(super) fn wait(&self, debounce: Debounce) -> Hint {
        match self.hints.recv_timeout(debounce.longest) {
            Err(RecvTimeoutError::Timeout) => return Hint::Look,
            Err(RecvTimeoutError::Disconnected) | Ok(Hint::Stop) => return Hint::Stop,
            Ok(Hint::Look) => {}
        }
        let latest = Instant::now() + debounce.most_quiet;
        while Instant::now() < latest {
            match self.hints.recv_timeout(debounce.quiet) {
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) | Ok(Hint::Stop) => return Hint::Stop,
                Ok(Hint::Look) => {}
            }
        }
        Hint::Look
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
