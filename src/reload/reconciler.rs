//! Executes plans: reads, checks and installs heads, and lists what it rejects.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Instant,
};

use super::{
    head_checker::{HeadChecker, HeadRejection},
    installer::{Installer, unix_ms},
    plan::{Action, Installed, Rejected, Retry, TaskRecord, plan},
    progress::ReloadProgress,
};
use crate::{
    engine::{Engine, LoadBranchError},
    head::Head,
    ids::{Digest, TaskName, Version},
    metrics::{Metrics, Reload},
    registry::{Change, Listing, Registry, Rejection},
    store::{HeadStore, IgnoredEntry, Scan, StoreError, TaskFolder, VersionFile},
};

#[derive(Debug)]
pub struct Reconciler {
    store: HeadStore,
    checker: HeadChecker,
    metrics: Arc<Metrics>,
    tasks: BTreeMap<TaskName, TaskRecord>,
    /// The reason of each folder that cannot be read; `None` stands for the root.
    unreadable: BTreeMap<Option<TaskName>, String>,
    ignored: BTreeSet<IgnoredEntry>,
    /// Deep heads rejected because their budget is used up, with the bytes that they need.
    waiting_for_budget: Vec<(TaskName, Version, u64)>,
    installer: Arc<Installer>,
    retired: Vec<Arc<Head>>,
    first_scan_done: bool,
    progress: Arc<ReloadProgress>,
}

/// Why a file is rejected.
struct Failure {
    reason: String,
    /// `None` if the file could not be read whole.
    digest: Option<Digest>,
    /// Nothing but another file can help.
    is_permanent: bool,
}

impl Reconciler {
    pub fn new(
        store: HeadStore,
        registry: Arc<Registry>,
        engine: Engine,
        metrics: Arc<Metrics>,
    ) -> Self {
        let installer = Arc::new(Installer::new(registry, metrics.clone()));
        Self {
            store,
            checker: HeadChecker(engine),
            metrics,
            tasks: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            ignored: BTreeSet::new(),
            waiting_for_budget: Vec::new(),
            installer,
            retired: Vec::new(),
            first_scan_done: false,
            progress: Arc::new(ReloadProgress::new(Instant::now())),
        }
    }

    pub fn root(&self) -> &Path {
        self.store.root()
    }

    /// Returns whether the folder was read at least once and its heads installed.
    pub fn first_scan_done(&self) -> bool {
        self.first_scan_done
    }

    pub fn progress(&self) -> &Arc<ReloadProgress> {
        &self.progress
    }

    pub(super) fn installer(&self) -> &Arc<Installer> {
        &self.installer
    }

    /// Returns when a head that was rejected for a while is tried again.
    pub fn next_retry(&self) -> Option<Instant> {
        let now = Instant::now();
        self.tasks.values().filter_map(|record| record.next_retry(now)).min()
    }

    /// Scans the whole folder and makes the registry match it, unless it is told to stop.
    pub fn scan(&mut self) {
        self.retired.extend(self.installer.take_retired());
        self.retired.retain(|head| Arc::strong_count(head) > 1);
        self.retry_deep_heads_that_fit();
        match self.store.scan() {
            Ok(scan) => {
                self.reconcile_all(scan);
                self.first_scan_done |= !self.progress.is_stopped();
            }
            Err(error) => {
                self.list_unreadable(None, &format!("{error}; a head that serves keeps serving"));
            }
        }
        self.installer.apply_all();
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
        // An unmounted volume leaves an empty folder: that is one thing lost, not thousands.
        if gone.len() > 1 && gone.len() == self.tasks.len() {
            let count = gone.len();
            let reason = format!(
                "the folders of all {count} tasks are gone; a head that serves keeps serving until \
                 a restart"
            );
            self.list_unreadable(None, &reason);
        } else {
            self.list_readable(None);
            for task in gone {
                let reason = "its folder is gone; a head that serves keeps serving until a restart; to withdraw \
                              a task, empty its folder instead";
                self.reconcile(task, &TaskFolder::Unreadable { reason: reason.to_owned() });
            }
        }
        for (task, path) in folders {
            if self.progress.is_stopped() {
                return;
            }
            let folder = scan.read_folder(&path);
            self.reconcile(task, &folder);
            self.progress.moved(Instant::now());
        }
        self.report_ignored(scan.ignored);
    }

    fn reconcile(&mut self, task: TaskName, folder: &TaskFolder) {
        let mut record = self.tasks.remove(&task).unwrap_or_default();
        self.list_if_unreadable(&task, folder);
        self.clear_rejections(&task, folder, &mut record);
        match plan(folder, &record, Instant::now()) {
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
            if self.progress.is_stopped() {
                return;
            }
            let checked = self.read_and_check(task, version, &file, record);
            self.progress.moved(Instant::now());
            match checked {
                Ok(head) => {
                    record.codes.record(&head.classes);
                    newest = Some((head, file));
                }
                // The engine refuses work while it stops, which says nothing about the head.
                Err(_) if self.progress.is_stopped() => return,
                Err(failure) => self.reject(task, version, &file, failure, record),
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

    fn read_and_check(
        &mut self,
        task: &TaskName,
        version: Version,
        file: &VersionFile,
        record: &TaskRecord,
    ) -> Result<Head, Failure> {
        let bytes = self.store.read(file).map_err(Failure::to_read)?;
        self.checker.check(&bytes, task, version, &record.codes).map_err(|rejection| {
            if let HeadRejection::Branch(LoadBranchError::OverBudget { needed, .. }) = rejection {
                self.waiting_for_budget.push((task.clone(), version, needed));
            }
            Failure {
                reason: rejection.to_string(),
                digest: Some(Digest::of(&bytes)),
                is_permanent: rejection.is_permanent(),
            }
        })
    }

    /// Rejects the serving version's file if its content changed; a mere touch is ignored.
    fn check_serving(&mut self, task: &TaskName, file: &VersionFile, record: &mut TaskRecord) {
        let Some(serving) = &mut record.serving else { return };
        let (version, expected) = (serving.version, serving.digest);
        let failure = match self.store.read(file) {
            Ok(bytes) if Digest::of(&bytes) == expected => {
                serving.fingerprint = file.fingerprint;
                if record.rejected.remove(&version).is_some() {
                    let (task, listing) = (Some(task.clone()), Listing::Head(version));
                    self.push(Change::ClearRejection { task, listing }, Instant::now());
                }
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
                Failure { reason, digest: Some(found), is_permanent: true }
            }
            Err(error) => Failure::to_read(error),
        };
        self.reject(task, version, file, failure, record);
    }

    fn reject(
        &mut self,
        task: &TaskName,
        version: Version,
        file: &VersionFile,
        Failure { reason, digest, is_permanent }: Failure,
        record: &mut TaskRecord,
    ) {
        let (path, fingerprint) = (file.path.display(), file.fingerprint);
        let before = record.rejected.remove(&version);
        let before = before.filter(|before| before.fingerprint == fingerprint);
        let retry = (!is_permanent)
            .then(|| Retry::after(before.as_ref().and_then(|before| before.retry), Instant::now()));
        if before.is_none_or(|before| before.reason != reason) {
            tracing::warn!(%task, version, %path, %reason, "head rejected; its task is unchanged");
            self.metrics.count_reload(Reload::Refused);
            let again = if is_permanent { "" } else { "; it is tried again" };
            let listed = format!("{reason}{again}");
            let listing = Listing::Head(version);
            self.push_rejection(Some(task), listing, listed, digest, fingerprint.size);
        }
        record.rejected.insert(version, Rejected { fingerprint, reason, retry });
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
            let (task, listing) = (Some(task.clone()), Listing::Head(version));
            self.push(Change::ClearRejection { task, listing }, Instant::now());
        }
    }

    /// Lists an unreadable folder once, and stops listing it when it is readable.
    fn list_if_unreadable(&mut self, task: &TaskName, folder: &TaskFolder) {
        match folder {
            TaskFolder::Unreadable { reason } => self.list_unreadable(Some(task), reason),
            TaskFolder::Readable(_) => self.list_readable(Some(task)),
        }
    }

    /// Logs, counts and lists a folder with a new reason; `None` stands for the root.
    fn list_unreadable(&mut self, task: Option<&TaskName>, reason: &str) {
        let before = self.unreadable.insert(task.cloned(), reason.to_owned());
        if before.as_deref() == Some(reason) {
            return;
        }
        tracing::error!(
            task = task.map(TaskName::as_str), %reason, "unreadable folder; nothing is removed"
        );
        self.metrics.count_reload(Reload::ScanFailed);
        self.push_rejection(task, Listing::Folder, reason.to_owned(), None, 0);
    }

    fn list_readable(&mut self, task: Option<&TaskName>) {
        let task = task.cloned();
        if self.unreadable.remove(&task).is_some() {
            let listing = Listing::Folder;
            self.push(Change::ClearRejection { task, listing }, Instant::now());
        }
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
        task: Option<&TaskName>,
        listing: Listing,
        reason: String,
        digest: Option<Digest>,
        size_bytes: u64,
    ) {
        let rejection = Rejection { reason, digest, size_bytes, since_unix_ms: unix_ms() };
        self.push(Change::Reject { task: task.cloned(), listing, rejection }, Instant::now());
    }

    fn push(&mut self, change: Change, started: Instant) {
        self.installer.push(change, started);
    }
}

impl Failure {
    fn to_read(error: StoreError) -> Self {
        let (reason, is_permanent) = (error.to_string(), error.is_permanent());
        Self { reason, digest: None, is_permanent }
    }
}
