//! The plan for one task: a pure function of its folder and of what is installed.

use std::{
    collections::BTreeMap,
    ops::Bound,
    time::{Duration, Instant},
};

use crate::{
    head::ClassCodes,
    ids::{Digest, Version},
    store::{Fingerprint, TaskFolder, VersionFile},
};

/// The state of a task after earlier scans.
#[derive(Debug, Clone, Default)]
pub(super) struct TaskRecord {
    pub(super) serving: Option<Installed>,
    pub(super) rejected: BTreeMap<Version, Rejected>,
    /// Every code that a valid version has assigned.
    pub(super) codes: ClassCodes,
}

/// A file that does not serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rejected {
    pub(super) fingerprint: Fingerprint,
    pub(super) reason: String,
    /// When it is tried again although it does not change; `None` if its bytes prove it invalid.
    pub(super) retry: Option<Retry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Retry {
    pub(super) at: Instant,
    /// The pause before `at`.
    pub(super) pause: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Installed {
    pub(super) version: Version,
    pub(super) digest: Digest,
    pub(super) fingerprint: Fingerprint,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Do nothing.
    Keep,
    /// Check these files oldest first and serve the newest valid one.
    ///
    /// Each must respect the class codes of those before it. A starting server goes through all
    /// versions this way, so it serves what its peers serve.
    Load(Vec<(Version, VersionFile)>),
    /// Check the file of the serving version, which changed after it was read.
    CheckServing(VersionFile),
    /// Withdraw the task: its last version was removed on purpose.
    Withdraw,
}

/// Decides what to do after a scan of one task's folder.
pub(super) fn plan(folder: &TaskFolder, record: &TaskRecord, now: Instant) -> Action {
    let TaskFolder::Readable(versions) = folder else { return Action::Keep };
    if versions.is_empty() {
        return if record.serving.is_some() { Action::Withdraw } else { Action::Keep };
    }
    let present = record
        .serving
        .and_then(|serving| versions.get(&serving.version).map(|file| (serving, file)));
    // Without the file of the serving version, older versions are candidates again.
    let above = present.map_or(Bound::Unbounded, |(serving, _)| Bound::Excluded(serving.version));
    let candidates: Vec<_> = versions
        .range((above, Bound::Unbounded))
        .filter(|(version, file)| may_be_tried(**version, file, record, now))
        .map(|(version, file)| (*version, file.clone()))
        .collect();
    match present {
        _ if !candidates.is_empty() => Action::Load(candidates),
        Some((serving, file))
            if file.fingerprint != serving.fingerprint
                && may_be_tried(serving.version, file, record, now) =>
        {
            Action::CheckServing(file.clone())
        }
        Some(_) | None => Action::Keep,
    }
}

/// Returns false for a rejected file until it changes, or until its retry is due.
fn may_be_tried(version: Version, file: &VersionFile, record: &TaskRecord, now: Instant) -> bool {
    record.rejected.get(&version).is_none_or(|rejected| {
        rejected.fingerprint != file.fingerprint
            || rejected.retry.is_some_and(|retry| retry.at <= now)
    })
}

impl Retry {
    const FIRST: Duration = Duration::from_millis(250);
    const LONGEST: Duration = Duration::from_secs(60);

    /// Returns the retry after a failure now: each pause is twice the one before.
    pub(super) fn after(before: Option<Self>, now: Instant) -> Self {
        let pause = before.map_or(Self::FIRST, |before| (before.pause * 2).min(Self::LONGEST));
        Self { at: now + pause, pause }
    }
}

impl TaskRecord {
    /// Returns when a rejected file that could serve is tried again, unless that is past.
    pub(super) fn next_retry(&self, now: Instant) -> Option<Instant> {
        let lowest = self.serving.map_or(0, |serving| serving.version);
        let candidates = self.rejected.range(lowest..);
        candidates
            .filter_map(|(_, rejected)| rejected.retry.map(|retry| retry.at))
            .filter(|at| *at > now)
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(inode: u64) -> VersionFile {
        let fingerprint = Fingerprint { device: 1, inode, size: 1, modified: 0, changed: 0 };
        VersionFile { path: format!("{inode}").into(), fingerprint }
    }

    fn folder(versions: &[Version]) -> TaskFolder {
        TaskFolder::Readable(versions.iter().map(|version| (*version, file(*version))).collect())
    }

    fn serving(version: Version) -> TaskRecord {
        let fingerprint = file(version).fingerprint;
        let installed = Installed { version, digest: Digest::of(b""), fingerprint };
        TaskRecord { serving: Some(installed), ..TaskRecord::default() }
    }

    fn rejected(file: VersionFile, retry: Option<Retry>) -> Rejected {
        Rejected { fingerprint: file.fingerprint, reason: "why".to_owned(), retry }
    }

    fn versions(action: Action) -> Vec<Version> {
        match action {
            Action::Load(files) => files.into_iter().map(|(v, _)| v).collect(),
            Action::Keep | Action::CheckServing(_) | Action::Withdraw => panic!("{action:?}"),
        }
    }

    #[test]
    fn first_scan_loads_all_versions_oldest_first() {
        assert_eq!(
            versions(plan(&folder(&[3, 1, 2]), &TaskRecord::default(), Instant::now())),
            [1, 2, 3]
        );
    }

    #[test]
    fn later_scans_load_only_newer_versions() {
        assert_eq!(versions(plan(&folder(&[1, 2, 3, 4]), &serving(2), Instant::now())), [3, 4]);
        assert_eq!(plan(&folder(&[1, 2]), &serving(2), Instant::now()), Action::Keep);
    }

    #[test]
    fn rejected_file_is_retried_only_when_it_changes() {
        let mut record = serving(2);
        record.rejected.insert(3, rejected(file(3), None));
        assert_eq!(plan(&folder(&[2, 3]), &record, Instant::now()), Action::Keep);
        record.rejected.insert(3, rejected(file(99), None));
        assert_eq!(versions(plan(&folder(&[2, 3]), &record, Instant::now())), [3]);
    }

    #[test]
    fn unreadable_folder_changes_nothing_and_an_empty_one_withdraws() {
        let unreadable = TaskFolder::Unreadable { reason: "permission denied".to_owned() };
        assert_eq!(plan(&unreadable, &serving(2), Instant::now()), Action::Keep);
        assert_eq!(plan(&folder(&[]), &serving(2), Instant::now()), Action::Withdraw);
        assert_eq!(plan(&folder(&[]), &TaskRecord::default(), Instant::now()), Action::Keep);
    }

    #[test]
    fn older_version_is_loaded_when_the_newest_is_removed() {
        assert_eq!(versions(plan(&folder(&[1, 2]), &serving(3), Instant::now())), [1, 2]);
    }

    #[test]
    fn replaced_file_of_the_serving_version_is_checked() {
        let mut record = serving(2);
        if let Some(installed) = &mut record.serving {
            installed.fingerprint = file(7).fingerprint;
        }
        assert_eq!(plan(&folder(&[2]), &record, Instant::now()), Action::CheckServing(file(2)));
    }

    #[test]
    fn unreadable_file_is_retried_with_growing_pauses() {
        let start = Instant::now();
        let (mut record, mut retry) = (serving(2), None);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            let next = Retry::after(retry, start);
            record.rejected.insert(3, rejected(file(3), Some(next)));
            let before = next.at - Duration::from_millis(1);
            assert_eq!(plan(&folder(&[2, 3]), &record, before), Action::Keep);
            assert_eq!(record.next_retry(before), Some(next.at));
            assert_eq!(versions(plan(&folder(&[2, 3]), &record, next.at)), [3]);
            pauses.push(next.pause);
            retry = Some(next);
        }
        assert!(pauses.is_sorted() && pauses[0] < pauses[1], "{pauses:?}");
        assert_eq!(pauses.last(), Some(&Retry::LONGEST));
    }

    #[test]
    fn retry_of_a_version_below_the_serving_one_is_not_waited_for() {
        let now = Instant::now();
        let mut record = serving(2);
        record.rejected.insert(1, rejected(file(1), Some(Retry::after(None, now))));
        assert_eq!(record.next_retry(now), None);
    }

    #[test]
    fn highest_version_there_can_be_is_kept() {
        let newest = Version::MAX;
        assert_eq!(plan(&folder(&[1, newest]), &serving(newest), Instant::now()), Action::Keep);
    }
}
