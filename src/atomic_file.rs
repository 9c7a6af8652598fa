//! Atomic file writes: readers see a whole file or none.

use std::{
    fs::{File, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use tempfile::NamedTempFile;

/// Temporary names start with a dot, so that listings skip them.
const TEMPORARY_PREFIX: &str = ".writing-";

/// Writes a file under a temporary name beside its final one, then renames it.
///
/// Readers see all of it or nothing, also after a crash or a power cut. Never replaces a file. The
/// mode is 0644, because the server may run as another user.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if the name is taken.
pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = folder_of(path);
    temporary(folder, bytes)?.persist_noclobber(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

/// Writes a file like [`write_new`], but creates the folder and replaces an existing file.
///
/// Readers see the old content or the new one, and a crash leaves one of the two.
///
/// # Errors
/// Any error of the file system; the old file is then intact.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = folder_of(path);
    fs_err::create_dir_all(folder)?;
    temporary(folder, bytes)?.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Writes and syncs a temporary file, which is removed on drop.
fn temporary(folder: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new()
        .prefix(TEMPORARY_PREFIX)
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(folder)?;
    file.write_all(bytes)?;
    // The umask may have cleared bits of the mode.
    file.as_file().set_permissions(Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_new_keeps_an_existing_file_and_leaves_no_temporary() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_new(&path, b"first").unwrap();
        assert_eq!(write_new(&path, b"second").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs_err::read(&path).unwrap(), b"first");
        assert_eq!(fs_err::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn replace_leaves_open_readers_the_old_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/down/a");
        replace(&path, b"first").unwrap();
        let before = File::open(&path).unwrap();
        replace(&path, b"second").unwrap();
        assert_eq!(fs_err::read(&path).unwrap(), b"second");
        // The rename unlinked the old file but did not truncate it: open readers still see it.
        assert_eq!(io::read_to_string(before).unwrap(), "first");
        assert_eq!(fs_err::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        let taken = folder.path().join("taken");
        fs_err::create_dir(&taken).unwrap();
        assert!(replace(&taken, b"x").is_err());
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 2, "no temporary file left");
    }
}
