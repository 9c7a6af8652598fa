//! One scan of the whole folder: the desired state, never events.
//!
//! It goes task by task, so that memory does not grow with the number of old versions.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Files, Fingerprint, HeadStore, StoreError, version_of};
use crate::ids::{TaskName, Version};

/// A scan of the folder in progress.
#[derive(Debug)]
pub struct Scan {
    files: Arc<dyn Files>,
    /// Task folders that have not been read yet.
    pub folders: BTreeMap<TaskName, PathBuf>,
    /// Visible entries that are not heads: reported, otherwise left alone.
    pub ignored: Vec<IgnoredEntry>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum TaskFolder {
    /// By version. Empty means that the last file was removed on purpose: the task is withdrawn.
    Readable(BTreeMap<Version, VersionFile>),
    /// The content is unknown, so nothing changes.
    Unreadable { reason: String },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionFile {
    pub path: PathBuf,
    pub fingerprint: Fingerprint,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IgnoredEntry {
    pub path: PathBuf,
    pub reason: String,
}

impl HeadStore {
    /// Lists the task folders, to be [read](Scan::read_folder) one by one.
    ///
    /// # Errors
    /// [`StoreError::Root`] if the root cannot be listed. Its content is then unknown, not empty.
    pub fn scan(&self) -> Result<Scan, StoreError> {
        let mut scan = Scan::new(self.files.clone());
        for (name, path) in visible_entries(&*self.files, &self.root).map_err(StoreError::Root)? {
            match name.parse::<TaskName>() {
                // A link to a folder counts as a folder.
                Ok(task) if !path.is_file() => {
                    scan.folders.insert(task, path);
                }
                Ok(_) => scan.ignore(path, "unexpected file, expected a task folder"),
                Err(error) => scan.ignore(path, error),
            }
        }
        Ok(scan)
    }

    /// Returns the versions of one task, none if it has no folder.
    pub(super) fn versions(&self, task: &TaskName) -> io::Result<BTreeMap<Version, VersionFile>> {
        match Scan::new(self.files.clone()).versions(&self.task_folder(task)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            other => other,
        }
    }
}

impl Scan {
    fn new(files: Arc<dyn Files>) -> Self {
        Self { files, folders: BTreeMap::new(), ignored: Vec::new() }
    }

    /// Reads what a task's folder holds now.
    pub fn read_folder(&mut self, folder: &Path) -> TaskFolder {
        match self.versions(folder) {
            Ok(versions) => TaskFolder::Readable(versions),
            Err(error) => TaskFolder::Unreadable { reason: error.to_string() },
        }
    }

    fn versions(&mut self, folder: &Path) -> io::Result<BTreeMap<Version, VersionFile>> {
        let mut versions: BTreeMap<Version, VersionFile> = BTreeMap::new();
        for (name, path) in visible_entries(&*self.files, folder)? {
            let Some(version) = version_of(&name) else {
                self.ignore(path, "invalid file name, expected a version number and .safetensors");
                continue;
            };
            match self.files.fingerprint(&path) {
                Ok(fingerprint) if !versions.contains_key(&version) => {
                    versions.insert(version, VersionFile { path, fingerprint });
                }
                Ok(_) => self.ignore(path, format!("duplicate file for version {version}")),
                // Gone since it was listed, or a dangling link: the next scan will tell.
                Err(error) if is_no_file(&error) => self.ignore(path, error),
                // Without this file it would seem that a version was removed on purpose.
                Err(error) => return Err(error),
            }
        }
        Ok(versions)
    }

    fn ignore(&mut self, path: PathBuf, reason: impl ToString) {
        self.ignored.push(IgnoredEntry { path, reason: reason.to_string() });
    }
}

/// Returns whether the error says that there is no regular file, rather than that it is unknown.
fn is_no_file(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | InvalidInput)
}

/// Returns the name and path of every visible entry, sorted by name.
fn visible_entries(files: &dyn Files, folder: &Path) -> io::Result<BTreeMap<String, PathBuf>> {
    let named = files.list(folder)?.into_iter().filter_map(|path| {
        let name = path.file_name()?.to_string_lossy().into_owned();
        Some((name, path))
    });
    Ok(named.filter(|(name, _)| !name.starts_with('.') && name != "lost+found").collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store_with(files: &[&str]) -> (tempfile::TempDir, HeadStore) {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, b"x").unwrap();
        }
        let store = HeadStore::new(folder.path());
        (folder, store)
    }

    #[test]
    fn scan_sorts_versions_by_number_and_skips_work_in_progress() {
        let (folder, store) = store_with(&[
            "a/00000002.safetensors",
            "a/00000010.safetensors",
            "a/.writing-x",
            "a/notes.txt",
            "a/00000000.safetensors",
            ".hidden/00000001.safetensors",
            "Not A Task/00000001.safetensors",
            "stray",
        ]);
        let mut scan = store.scan().unwrap();
        assert_eq!(scan.folders.len(), 1);
        let TaskFolder::Readable(versions) = scan.read_folder(&folder.path().join("a")) else {
            panic!("unreadable")
        };
        assert_eq!(versions.keys().copied().collect::<Vec<_>>(), [2, 10]);
        assert_eq!(scan.ignored.len(), 4);
    }

    #[test]
    fn scan_of_a_missing_root_is_an_error() {
        let (folder, store) = store_with(&["a/00000001.safetensors"]);
        drop(folder);
        assert!(matches!(store.scan(), Err(StoreError::Root(_))));
    }

    #[test]
    fn fingerprint_follows_the_link_that_kubernetes_swaps() {
        let (folder, store) =
            store_with(&["a/..one/00000001.safetensors", "a/..two/00000001.safetensors"]);
        let link = folder.path().join("a/00000001.safetensors");
        let seen = || {
            let mut scan = store.scan().unwrap();
            match scan.read_folder(&scan.folders[&"a".parse().unwrap()].clone()) {
                TaskFolder::Readable(versions) => versions[&1].fingerprint,
                TaskFolder::Unreadable { reason } => panic!("{reason}"),
            }
        };
        std::os::unix::fs::symlink("..data/00000001.safetensors", &link).unwrap();
        std::os::unix::fs::symlink("..one", folder.path().join("a/..data")).unwrap();
        let before = seen();
        std::os::unix::fs::symlink("..two", folder.path().join("a/..new")).unwrap();
        fs_err::rename(folder.path().join("a/..new"), folder.path().join("a/..data")).unwrap();
        assert_ne!(before, seen());
    }
}
