//! The folder of heads: the contract between `fine-tune`, which publishes, and the server.
//!
//! `<root>/<task>/<version, 8 digits>.safetensors`. A version's file never changes. Names with a
//! leading dot are work in progress and are skipped.

mod files;
mod publish;
mod scan;

pub use files::{Files, Fingerprint, LocalFiles};
pub use publish::{HeadDraft, PublishError, Published};
pub use scan::{IgnoredEntry, Scan, TaskFolder, VersionFile};

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    head::MAX_HEAD_FILE_BYTES,
    ids::{TaskName, Version},
};

const SUFFIX: &str = ".safetensors";

/// A folder of heads.
#[derive(Debug, Clone)]
pub struct HeadStore {
    root: PathBuf,
    files: Arc<dyn Files>,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot read the folder of heads: {0}")]
    Root(io::Error),
    #[error("cannot read head file: {0}")]
    File(io::Error),
    #[error("head file {path} has {found} bytes, the limit for a head is {limit}")]
    TooLarge { path: PathBuf, found: u64, limit: u64 },
}

impl StoreError {
    /// Returns whether the file itself is at fault, so that reading it again is no use.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::TooLarge { .. } => true,
            Self::Root(_) | Self::File(_) => false,
        }
    }
}

impl HeadStore {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self::with_files(root, Arc::new(LocalFiles))
    }

    /// Returns the store in this folder of these files.
    pub fn with_files(root: impl Into<PathBuf>, files: Arc<dyn Files>) -> Self {
        Self { root: root.into(), files }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    fn task_folder(&self, task: &TaskName) -> PathBuf {
        self.root.join(task.as_str())
    }

    fn version_path(&self, task: &TaskName, version: Version) -> PathBuf {
        self.task_folder(task).join(format!("{version:08}{SUFFIX}"))
    }

    /// Reads the whole file as it is now.
    ///
    /// It is not memory-mapped: truncating a mapped file would kill the process.
    pub fn read(&self, file: &VersionFile) -> Result<Vec<u8>, StoreError> {
        let opened = self.files.open(&file.path).map_err(StoreError::File)?;
        let mut bytes =
            Vec::with_capacity(usize::try_from(file.fingerprint.size).unwrap_or(0).min(1 << 20));
        opened.take(MAX_HEAD_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(StoreError::File)?;
        let found = file.fingerprint.size.max(bytes.len() as u64);
        if found > MAX_HEAD_FILE_BYTES {
            return Err(StoreError::TooLarge {
                path: file.path.clone(),
                found,
                limit: MAX_HEAD_FILE_BYTES,
            });
        }
        Ok(bytes)
    }
}

/// Parses the version from a file name: digits, then the suffix.
fn version_of(file_name: &str) -> Option<Version> {
    let digits = file_name.strip_suffix(SUFFIX)?;
    let all_digits = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    all_digits.then(|| digits.parse().ok()).flatten().filter(|version| *version > 0)
}
