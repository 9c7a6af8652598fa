//! How the store reaches files: the one place where a test can make reading fail.

use std::{
    fmt,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Detects that a file was changed or replaced, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    pub device: u64,
    pub inode: u64,
    pub size: u64,
    /// Time of the last change of the content (mtime), in nanoseconds.
    pub modified: i128,
    /// Time of the last change of the inode (ctime), in nanoseconds; catches an mtime set back.
    pub changed: i128,
}

/// What the store reads of a file system.
///
/// # Errors
/// Each method passes on the error of the file system.
pub trait Files: fmt::Debug + Send + Sync {
    /// Returns the path of every entry of a folder, in any order.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;

    /// Returns the fingerprint of a regular file; links are followed.
    fn fingerprint(&self, file: &Path) -> io::Result<Fingerprint>;

    /// Opens a file for reading.
    fn open(&self, file: &Path) -> io::Result<Box<dyn Read>>;
}

/// The file system of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalFiles;

impl Files for LocalFiles {
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        fs_err::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
    }

    /// Follows links, because Kubernetes swaps a link and not the file.
    fn fingerprint(&self, file: &Path) -> io::Result<Fingerprint> {
        let metadata = fs_err::metadata(file)?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let nanoseconds =
            |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Ok(Fingerprint {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    fn open(&self, file: &Path) -> io::Result<Box<dyn Read>> {
        Ok(Box::new(fs_err::File::open(file)?))
    }
}
