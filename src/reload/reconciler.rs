//! Executes plans: reads, checks and installs heads, and lists what it rejects.

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

/// Changes made visible together; with a larger batch, the first would wait for the last.
const MAX_PENDING: usize = 256;

#[derive(Debug)]
pub struct Reconciler {
    store: HeadStore,
    registry: Arc<Registry>,
    checker: HeadChecker,
    metrics: Arc<Metrics>,
    tasks: BTreeMap<TaskName, TaskRecord>,
    /// The reason of each folder that cannot be read; `None` stands for the root.
    unreadable: BTreeMap<Option<TaskName>, String>,
    ignored: BTreeSet<IgnoredEntry>,
    /// Deep heads rejected because their budget is used up, with the bytes that they need.
    waiting_for_budget: Vec<(TaskName, Version, u64)>,
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
            checker: HeadChecker(engine),
            metrics,
            tasks: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            ignored: BTreeSet::new(),
            waiting_for_budget: Vec::new(),
            pending: Vec::new(),
            retired: Vec::new(),
            first_scan_done: false,
        }
    }

    pub fn root(&self) -> &Path {
        self.store.root()
    }

    /// Returns whether the folder was read at least once and its heads installed.
    pub fn first_scan_done(&self) -> bool {
        self.first_scan_done
    }

    /// Scans the whole folder and makes the registry match it.
    pub fn scan(&mut self) {
        self.retired.retain(|head| Arc::strong_count(head) > 1);
        self.retry_deep_heads_that_fit();
        match self.store.scan() {
            Ok(scan) => {
                self.first_scan_done = true;
                self.unreadable.remove(&None);
                self.reconcile_all(scan);
            }
            Err(error) => {
                self.report_unreadable(None, &error.to_string());
                let installed: Vec<TaskName> = self.tasks.keys().cloned().collect();
                let reason = format!("{error}; a head that serves keeps serving");
                for task in installed {
                    self.reconcile(task, &TaskFolder::Unreadable { reason: reason.clone() });
                }
            }
        }
        self.apply_pending();
    }

    /// Makes the next plan retry deep heads that now fit, although their files did not change.
    fn retry_deep_heads_that_fit(&mut self) {
        let free = self.checker.0.free_branch_bytes();
        let (fitting, waiting): (Vec<_>, Vec<_>) = std::mem::take(&mut self.waiting_for_budget)
            .into_iter()
            .partition(|(.., needed)| *needed <= free);
        self.waiting_for_budget = waiting;
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
            let reason = "its folder is gone; a head that serves keeps serving until a restart; to withdraw \
                          a task, empty its folder instead";
            self.reconcile(task, &TaskFolder::Unreadable { reason: reason.to_owned() });
        }
        for (task, path) in folders {
            let folder = scan.read_folder(&path);
            self.reconcile(task, &folder);
        }
        self.report_ignored(scan.ignored);
    }

    fn reconcile(&mut self, task: TaskName, folder: &TaskFolder) {
        let mut record = self.tasks.remove(&task).unwrap_or_default();
        self.list_if_unreadable(&task, folder);
        self.clear_rejections(&task, folder, &mut record);
        match plan(folder, &record) {
            Action::Keep => {}
            Action::Load(files) => self.load(&task, files, &mut record),
            Action::CheckServing(file) => self.check_serving(&task, &file, &mut record),
            Action::Withdraw => {
                tracing::info!(%task, "task withdrawn: its folder holds no versions");
                self.metrics.count_reload(Reload::Withdrawn);
                record = TaskRecord::default();
                self.push(Change::Withdraw { task: task.clone() }, Instant::now());
            }
        }
        if record.serving.is_some() || !record.rejected.is_empty() {
            self.tasks.insert(task, record);
        }
    }

    /// Checks files oldest first and installs the newest valid one.
    fn load(
        &mut self,
        task: &TaskName,
        files: Vec<(Version, VersionFile)>,
        record: &mut TaskRecord,
    ) {
        let started = Instant::now();
        let mut newest = None;
        for (version, file) in files {
            let read = self.store.read(&file).map_err(|error| (error.to_string(), None));
            let checked = read.and_then(|bytes| {
                self.checker.check(&bytes, task, version, &record.codes).map_err(|rejection| {
                    if let HeadRejection::Branch(LoadBranchError::OverBudget { needed, .. }) =
                        rejection
                    {
                        self.waiting_for_budget.push((task.clone(), version, needed));
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
            self.push(Change::Install(head), started);
        }
    }

    /// Rejects the serving version's file if its content changed; a mere touch is ignored.
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
                    "the file changed from {} to {} after it was installed, but a version never \
                     changes; publish a new one",
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
        let path = file.path.display();
        tracing::warn!(%task, version, %path, %reason, "head rejected; its task is unchanged");
        self.metrics.count_reload(Reload::Refused);
        record.rejected.insert(version, file.fingerprint);
        self.push_rejection(task, Listing::Head(version), reason, digest, file.fingerprint.size);
    }

    /// Stops listing rejected files that are gone, or are the serving file again.
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

    /// Lists an unreadable folder once, and stops listing it when it is readable.
    fn list_if_unreadable(&mut self, task: &TaskName, folder: &TaskFolder) {
        match folder {
            TaskFolder::Unreadable { reason } => {
                if self.report_unreadable(Some(task), reason) {
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

    /// Logs and counts a new reason; returns whether it is new.
    fn report_unreadable(&mut self, task: Option<&TaskName>, reason: &str) -> bool {
        let before = self.unreadable.insert(task.cloned(), reason.to_owned());
        let is_new = before.as_deref() != Some(reason);
        if is_new {
            let task = task.map(TaskName::as_str);
            tracing::error!(task, %reason, "unreadable folder; nothing is removed");
            self.metrics.count_reload(Reload::ScanFailed);
        }
        is_new
    }

    fn report_ignored(&mut self, ignored: Vec<IgnoredEntry>) {
        let now: BTreeSet<IgnoredEntry> = ignored.into_iter().collect();
        for entry in now.difference(&self.ignored) {
            let IgnoredEntry { path, reason } = entry;
            tracing::warn!(path = %path.display(), %reason, "not a head; ignored");
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

    fn push(&mut self, change: Change, started: Instant) {
        self.pending.push((change, started));
        if self.pending.len() >= MAX_PENDING {
            self.apply_pending();
        }
    }

    fn apply_pending(&mut self) {
        let (changes, started): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.pending).into_iter().unzip();
        let installs =
            changes.iter().zip(&started).filter(|(change, _)| matches!(change, Change::Install(_)));
        let installs: Vec<Instant> = installs.map(|(_, started)| *started).collect();
        self.retired.extend(self.registry.apply(changes, unix_ms()));
        for started in installs {
            self.metrics.head_install_duration.record(started.elapsed());
        }
    }
}

fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
