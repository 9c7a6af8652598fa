//! Carries out plans: reads, checks and installs heads, and lists what it refuses.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    head_checker::{HeadChecker, HeadRejection},
    plan::{Action, Installed, TaskRecord, plan},
};
use crate::{
    engine::{Engine, LoadBranchError},
    head::Head,
    ids::{Digest, TaskName, Version},
    metrics::{Metrics, Reload},
    registry::{Change, Listing, Registry, Rejection},
    store::{HeadStore, IgnoredEntry, Scan, TaskFolder, VersionFile},
};

/// Changes that are made visible together; more at once would let the first wait for the last.
const CHANGES_AT_ONCE: usize = 256;

#[derive(Debug)]
pub struct Reconciler {
    store: HeadStore,
    registry: Arc<Registry>,
    base: HeadChecker,
    metrics: Arc<Metrics>,
    tasks: BTreeMap<TaskName, TaskRecord>,
    /// Why a folder cannot be read, for those that cannot; and the root's reason, under no name.
    unreadable: BTreeMap<Option<TaskName>, String>,
    ignored: BTreeSet<IgnoredEntry>,
    /// Deep heads that were rejected because their layers found no room, with the bytes that they need.
    waiting_for_room: Vec<(TaskName, Version, u64)>,
    pending: Vec<(Change, Instant)>,
    retired: Vec<Arc<Head>>,
    first_scan_done: bool,
}

impl Reconciler {
    pub fn new(
        store: HeadStore,
        registry: Arc<Registry>,
        engine: Engine,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            store,
            registry,
            base: HeadChecker(engine),
            metrics,
            tasks: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            ignored: BTreeSet::new(),
            waiting_for_room: Vec::new(),
            pending: Vec::new(),
            retired: Vec::new(),
            first_scan_done: false,
        }
    }

    pub fn root(&self) -> &Path {
        self.store.root()
    }

    /// Whether the folder could be read at least once, and what it held is installed.
    pub fn first_scan_done(&self) -> bool {
        self.first_scan_done
    }

    /// Looks at the whole folder and makes the registry agree with it.
    pub fn scan(&mut self) {
        self.retired.retain(|head| Arc::strong_count(head) > 1);
        self.try_again_where_there_is_room();
        match self.store.scan() {
            Ok(scan) => {
                self.first_scan_done = true;
                self.unreadable.remove(&None);
                self.reconcile_all(scan);
            }
            Err(error) => {
                self.tell_unreadable(None, &error.to_string());
                let installed: Vec<TaskName> = self.tasks.keys().cloned().collect();
                let reason = format!("{error}; its head goes on serving");
                for task in installed {
                    self.reconcile(task, &TaskFolder::Unreadable { reason: reason.clone() });
                }
            }
        }
        self.apply_pending();
    }

    /// Refused files are looked at again only when they change, but room comes back by itself.
    fn try_again_where_there_is_room(&mut self) {
        let free = self.base.0.free_branch_bytes();
        let (fitting, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting_for_room)
            .into_iter()
            .partition(|(.., needed)| *needed <= free);
        self.waiting_for_room = waiting;
        for (task, version, _) in fitting {
            if let Some(record) = self.tasks.get_mut(&task) {
                record.rejected.remove(&version);
            }
        }
    }

    fn reconcile_all(&mut self, mut scan: Scan) {
        let folders = std::mem::take(&mut scan.folders);
        let gone: Vec<TaskName> =
            self.tasks.keys().filter(|task| !folders.contains_key(*task)).cloned().collect();
        for task in gone {
            let reason = "its folder is gone; its head goes on serving until a restart. To withdraw a task, leave its \
                          folder empty";
            self.reconcile(task, &TaskFolder::Unreadable { reason: reason.to_owned() });
        }
        for (task, path) in folders {
            let folder = scan.read_folder(&path);
            self.reconcile(task, &folder);
        }
        self.tell_ignored(scan.ignored);
    }

    fn reconcile(&mut self, task: TaskName, folder: &TaskFolder) {
        let mut record = self.tasks.remove(&task).unwrap_or_default();
        self.list_folder(&task, folder);
        self.clear_rejections(&task, folder, &mut record);
        match plan(folder, &record) {
            Action::Keep => {}
            Action::Load(files) => self.load(&task, files, &mut record),
            Action::CheckServing(file) => self.check_serving(&task, &file, &mut record),
            Action::Withdraw => {
                tracing::info!(%task, "task withdrawn: its folder holds no version any more");
                self.metrics.count_reload(Reload::Withdrawn);
                record = TaskRecord::default();
                self.push(Change::Withdraw { task: task.clone() }, Instant::now());
            }
        }
        if record.serving.is_some() || !record.rejected.is_empty() {
            self.tasks.insert(task, record);
        }
    }

    /// Checks files, oldest first; the newest that is valid is installed.
    fn load(
        &mut self,
        task: &TaskName,
        files: Vec<(Version, VersionFile)>,
        record: &mut TaskRecord,
    ) {
        let begun = Instant::now();
        let mut newest = None;
        for (version, file) in files {
            let read = self.store.read(&file).map_err(|error| (error.to_string(), None));
            let checked = read.and_then(|bytes| {
                self.base.check(&bytes, task, version, &record.codes).map_err(|rejection| {
                    if let HeadRejection::Branch(LoadBranchError::OverBudget { needed, .. }) =
                        rejection
                    {
                        self.waiting_for_room.push((task.clone(), version, needed));
                    }
                    (rejection.to_string(), Some(Digest::of(&bytes)))
                })
            });
            match checked {
                Ok(head) => {
                    record.codes.record(&head.classes);
                    newest = Some((head, file));
                }
                Err((reason, digest)) => {
                    self.reject(task, version, &file, (reason, digest), record)
                }
            }
        }
        if let Some((head, file)) = newest {
            let Head { version, digest, .. } = head;
            tracing::info!(%task, version, digest = %digest.short(), "head installed");
            self.metrics.count_reload(Reload::Installed);
            record.serving = Some(Installed { version, digest, fingerprint: file.fingerprint });
            record.rejected.remove(&version);
            self.push(Change::Install(head), begun);
        }
    }

    /// The file that serves was touched: the same content is no news, another content is rejected.
    fn check_serving(&mut self, task: &TaskName, file: &VersionFile, record: &mut TaskRecord) {
        let Some(serving) = &mut record.serving else { return };
        let (version, expected) = (serving.version, serving.digest);
        let (reason, found) = match self.store.read(file) {
            Ok(bytes) if Digest::of(&bytes) == expected => {
                serving.fingerprint = file.fingerprint;
                return;
            }
            Ok(bytes) => {
                let found = Digest::of(&bytes);
                let reason = format!(
                    "the file changed from {} to {} after it was installed; a version never changes: publish a new one",
                    expected.short(),
                    found.short()
                );
                (reason, Some(found))
            }
            Err(error) => (error.to_string(), None),
        };
        self.reject(task, version, file, (reason, found), record);
    }

    fn reject(
        &mut self,
        task: &TaskName,
        version: Version,
        file: &VersionFile,
        (reason, digest): (String, Option<Digest>),
        record: &mut TaskRecord,
    ) {
        tracing::warn!(%task, version, path = %file.path.display(), %reason, "head rejected; what serves goes on serving");
        self.metrics.count_reload(Reload::Refused);
        record.rejected.insert(version, file.fingerprint);
        self.push_rejection(task, Listing::Head(version), reason, digest, file.fingerprint.size);
    }

    /// Stops listing rejected files that are gone, or are again the file that serves.
    fn clear_rejections(&mut self, task: &TaskName, folder: &TaskFolder, record: &mut TaskRecord) {
        let TaskFolder::Readable(versions) = folder else { return };
        let served = record.serving.map(|serving| serving.fingerprint);
        let is_cleared = |version: &Version| {
            versions.get(version).is_none_or(|file| Some(file.fingerprint) == served)
        };
        let cleared: Vec<Version> = record.rejected.keys().copied().filter(is_cleared).collect();
        for version in cleared {
            record.rejected.remove(&version);
            let listing = Listing::Head(version);
            self.push(Change::ClearRejection { task: task.clone(), listing }, Instant::now());
        }
    }

    /// Lists a folder that cannot be read, once, until it can.
    fn list_folder(&mut self, task: &TaskName, folder: &TaskFolder) {
        match folder {
            TaskFolder::Unreadable { reason } => {
                if self.tell_unreadable(Some(task), reason) {
                    self.push_rejection(task, Listing::Folder, reason.clone(), None, 0);
                }
            }
            TaskFolder::Readable(_) => {
                if self.unreadable.remove(&Some(task.clone())).is_some() {
                    self.push(
                        Change::ClearRejection { task: task.clone(), listing: Listing::Folder },
                        Instant::now(),
                    );
                }
            }
        }
    }

    /// True the first time.
    fn tell_unreadable(&mut self, task: Option<&TaskName>, reason: &str) -> bool {
        let before = self.unreadable.insert(task.cloned(), reason.to_owned());
        let is_new = before.as_deref() != Some(reason);
        if is_new {
            let task = task.map(TaskName::as_str);
            tracing::error!(task, %reason, "a folder cannot be read; nothing is removed because of that");
            self.metrics.count_reload(Reload::ScanFailed);
        }
        is_new
    }

    fn tell_ignored(&mut self, ignored: Vec<IgnoredEntry>) {
        let now: BTreeSet<IgnoredEntry> = ignored.into_iter().collect();
        for entry in now.difference(&self.ignored) {
            tracing::warn!(path = %entry.path.display(), reason = %entry.reason, "not a head; left alone");
        }
        self.ignored = now;
    }

    fn push_rejection(
        &mut self,
        task: &TaskName,
        listing: Listing,
        reason: String,
        digest: Option<Digest>,
        size_bytes: u64,
    ) {
        let rejection = Rejection { reason, digest, size_bytes, since_unix_ms: unix_ms() };
        self.push(Change::Reject { task: task.clone(), listing, rejection }, Instant::now());
    }

    fn push(&mut self, change: Change, begun: Instant) {
        self.pending.push((change, begun));
        if self.pending.len() >= CHANGES_AT_ONCE {
            self.apply_pending();
        }
    }

    fn apply_pending(&mut self) {
        let (changes, begun): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending).into_iter().unzip();
        let installs =
            changes.iter().zip(&begun).filter(|(change, _)| matches!(change, Change::Install(_)));
        let installs: Vec<Instant> = installs.map(|(_, begun)| *begun).collect();
        self.retired.extend(self.registry.apply(changes, unix_ms()));
        for begun in installs {
            self.metrics.head_install_duration.record(begun.elapsed());
        }
    }
}

fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
