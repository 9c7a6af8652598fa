//! Hints that the folder may have changed; they trigger a scan but carry no content.

use std::{
    collections::HashMap,
    fmt::Display,
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

impl Debounce {
    /// Returns the same with the next scan after this time at the latest.
    pub(super) fn within(self, time: Option<Duration>) -> Self {
        Self { rescan: time.map_or(self.rescan, |time| time.min(self.rescan)), ..self }
    }
}

/// Receives file system events and the request to stop.
#[derive(Debug)]
pub(super) struct Hints {
    root: PathBuf,
    /// `None` while the system refuses one.
    watcher: Option<RecommendedWatcher>,
    watches: Watches,
    /// For another watcher.
    sender: Sender<Hint>,
    hints: Receiver<Hint>,
}

/// The folders that are watched, and those for which it failed.
#[derive(Debug, Default)]
struct Watches {
    /// By path, the device and inode: a watch follows a folder that was renamed or unmounted.
    watched: Folders,
    /// Whether the last update ended with a folder that is not watched.
    failing: bool,
}

type Folders = HashMap<PathBuf, (u64, u64)>;

impl Hints {
    /// Returns the hints for a folder and a sender of further hints.
    pub(super) fn new(root: PathBuf) -> (Self, Sender<Hint>) {
        let (sender, hints) = channel();
        let watches = Watches::default();
        (Self { root, watcher: None, watches, sender: sender.clone(), hints }, sender)
    }

    /// Watches the root and every current task folder, also those for which it failed before.
    pub(super) fn update_watches(&mut self) {
        if self.watcher.is_none() {
            match watcher(self.sender.clone()) {
                Ok(watcher) => self.watcher = Some(watcher),
                Err(error) => return self.watches.report(&self.root, Some(error)),
            }
        }
        let Some(watcher) = &mut self.watcher else { return };
        let folders: Folders =
            task_folders(&self.root).chain([self.root.clone()]).filter_map(with_identity).collect();
        self.watches.remove_others(&folders, |folder| {
            // The system may have removed the watch together with the folder.
            let _already_gone = watcher.unwatch(folder);
        });
        self.watches
            .add_missing(folders, |folder| watcher.watch(folder, RecursiveMode::NonRecursive));
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

impl Watches {
    fn remove_others(&mut self, folders: &Folders, mut unwatch: impl FnMut(&Path)) {
        self.watched.retain(|folder, identity| {
            let stays = folders.get(folder) == Some(identity);
            if !stays {
                unwatch(folder);
            }
            stays
        });
    }

    /// Watches the folders that are not watched yet; those that fail are tried again next time.
    fn add_missing<E: Display>(
        &mut self,
        folders: Folders,
        mut watch: impl FnMut(&Path) -> Result<(), E>,
    ) {
        let mut failure = None;
        for (folder, identity) in folders {
            if self.watched.contains_key(&folder) {
                continue;
            }
            match watch(&folder) {
                Ok(()) => {
                    self.watched.insert(folder, identity);
                }
                Err(error) => {
                    failure.get_or_insert((folder, error));
                }
            }
        }
        match failure {
            Some((folder, error)) => self.report(&folder, Some(error)),
            None => self.report(Path::new(""), None::<E>),
        }
    }

    /// Tells once that watching fails, and once that it works again.
    fn report(&mut self, folder: &Path, failure: Option<impl Display>) {
        match failure {
            Some(error) if !self.failing => {
                let folder = folder.display();
                tracing::warn!(
                    %folder, %error,
                    "no file events for this folder at least; rescans find new heads, and \
                     watching is tried again"
                );
                self.failing = true;
            }
            None if self.failing => {
                tracing::info!("file events come from every folder again");
                self.failing = false;
            }
            Some(_) | None => {}
        }
    }
}

fn watcher(sender: Sender<Hint>) -> notify::Result<RecommendedWatcher> {
    notify::recommended_watcher(move |result: notify::Result<Event>| {
        // Reading a head is an event too: without this, each scan would trigger the next.
        let is_read = result.is_ok_and(|event| matches!(event.kind, EventKind::Access(_)));
        if !is_read {
            // Fails only while the server stops.
            let _stopped = sender.send(Hint::Scan);
        }
    })
}

fn task_folders(root: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs_err::read_dir(root).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir())
}

fn with_identity(folder: PathBuf) -> Option<(PathBuf, (u64, u64))> {
    let metadata = fs_err::metadata(&folder).ok()?;
    Some((folder, (metadata.dev(), metadata.ino())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(names: &[&str]) -> Folders {
        names.iter().zip(0..).map(|(name, inode)| (PathBuf::from(name), (1, inode))).collect()
    }

    #[test]
    fn failed_watch_is_tried_again_and_the_others_are_kept() {
        let mut watches = Watches::default();
        let mut tried = Vec::new();
        watches.add_missing(folders(&["a", "b"]), |folder| {
            tried.push(folder.to_owned());
            if folder.ends_with("b") { Err("no space") } else { Ok(()) }
        });
        assert_eq!((tried.len(), watches.failing), (2, true));
        let mut tried = Vec::new();
        watches.add_missing(folders(&["a", "b"]), |folder| {
            tried.push(folder.to_owned());
            Ok::<(), &str>(())
        });
        assert_eq!((tried, watches.failing), (vec![PathBuf::from("b")], false));
    }

    #[test]
    fn folder_that_was_replaced_is_watched_anew() {
        let mut watches = Watches::default();
        watches.add_missing(folders(&["a", "b"]), |_| Ok::<(), &str>(()));
        let now: Folders = [(PathBuf::from("a"), (1, 99))].into();
        let mut gone = Vec::new();
        watches.remove_others(&now, |folder| gone.push(folder.to_owned()));
        gone.sort();
        assert_eq!(gone, [PathBuf::from("a"), PathBuf::from("b")]);
        let mut tried = 0;
        watches.add_missing(now, |_| {
            tried += 1;
            Ok::<(), &str>(())
        });
        assert_eq!(tried, 1);
    }
}
