//! The plan for one task: a pure function of its folder and of what is installed.

use std::collections::BTreeMap;

use crate::{
    head::ClassCodes,
    ids::{Digest, Version},
    store::{Fingerprint, TaskFolder, VersionFile},
};

/// The state of a task after earlier scans.
#[derive(Debug, Clone, Default)]
pub(super) struct TaskRecord {
    pub(super) serving: Option<Installed>,
    pub(super) rejected: BTreeMap<Version, Fingerprint>,
    /// Every code that a valid version has assigned.
    pub(super) codes: ClassCodes,
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
pub(super) fn plan(folder: &TaskFolder, record: &TaskRecord) -> Action {
    let TaskFolder::Readable(versions) = folder else { return Action::Keep };
    if versions.is_empty() {
        return if record.serving.is_some() { Action::Withdraw } else { Action::Keep };
    }
    let present = record
        .serving
        .and_then(|serving| versions.get(&serving.version).map(|file| (serving, file)));
    // Without the file of the serving version, older versions are candidates again.
    let above = present.map_or(0, |(serving, _)| serving.version + 1);
    let candidates: Vec<_> = versions
        .range(above..)
        .filter(|(version, file)| is_untried(**version, file, record))
        .map(|(version, file)| (*version, file.clone()))
        .collect();
    match present {
        _ if !candidates.is_empty() => Action::Load(candidates),
        Some((serving, file))
            if file.fingerprint != serving.fingerprint
                && is_untried(serving.version, file, record) =>
        {
            Action::CheckServing(file.clone())
        }
        Some(_) | None => Action::Keep,
    }
}

/// Returns false for a rejected file until it changes.
fn is_untried(version: Version, file: &VersionFile, record: &TaskRecord) -> bool {
    record.rejected.get(&version) != Some(&file.fingerprint)
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

    fn versions(action: Action) -> Vec<Version> {
        match action {
            Action::Load(files) => files.into_iter().map(|(v, _)| v).collect(),
            Action::Keep | Action::CheckServing(_) | Action::Withdraw => panic!("{action:?}"),
        }
    }

    #[test]
    fn first_scan_loads_all_versions_oldest_first() {
        assert_eq!(versions(plan(&folder(&[3, 1, 2]), &TaskRecord::default())), [1, 2, 3]);
    }

    #[test]
    fn later_scans_load_only_newer_versions() {
        assert_eq!(versions(plan(&folder(&[1, 2, 3, 4]), &serving(2))), [3, 4]);
        assert_eq!(plan(&folder(&[1, 2]), &serving(2)), Action::Keep);
    }

    #[test]
    fn rejected_file_is_retried_only_when_it_changes() {
        let mut record = serving(2);
        record.rejected.insert(3, file(3).fingerprint);
        assert_eq!(plan(&folder(&[2, 3]), &record), Action::Keep);
        record.rejected.insert(3, file(99).fingerprint);
        assert_eq!(versions(plan(&folder(&[2, 3]), &record)), [3]);
    }

    #[test]
    fn unreadable_folder_changes_nothing_and_an_empty_one_withdraws() {
        let unreadable = TaskFolder::Unreadable { reason: "permission denied".to_owned() };
        assert_eq!(plan(&unreadable, &serving(2)), Action::Keep);
        assert_eq!(plan(&folder(&[]), &serving(2)), Action::Withdraw);
        assert_eq!(plan(&folder(&[]), &TaskRecord::default()), Action::Keep);
    }

    #[test]
    fn older_version_is_loaded_when_the_newest_is_removed() {
        assert_eq!(versions(plan(&folder(&[1, 2]), &serving(3))), [1, 2]);
    }

    #[test]
    fn replaced_file_of_the_serving_version_is_checked() {
        let mut record = serving(2);
        if let Some(installed) = &mut record.serving {
            installed.fingerprint = file(7).fingerprint;
        }
        assert_eq!(plan(&folder(&[2]), &record), Action::CheckServing(file(2)));
    }
}
