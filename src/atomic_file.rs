//! Files that can only be seen whole.

use std::{
    fs::{File, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use tempfile::NamedTempFile;

/// Temporary names begin with a dot: whoever lists a folder of ours passes over them.
const TEMPORARY_PREFIX: &str = ".writing-";

/// Writes a file under a temporary name beside its final one, then renames it.
///
/// A reader, a crash or a power cut sees all of it or nothing. Never replaces a file. Mode 0644: the server may run as another
/// user.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if the name is taken.
pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = folder_of(path);
    temporary(folder, bytes)?.persist_noclobber(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

/// Writes a file as [`write_new`] does, but makes the folder and renames over a file of this name.
///
/// Readers see the old content or the new, and a crash leaves one of the two.
///
/// # Errors
/// Whatever the file system says; the old file is then unharmed.
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

/// Makes a synced file under a temporary name; dropping it removes it.
fn temporary(folder: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    let mut file = tempfile::Builder::new()
        .prefix(TEMPORARY_PREFIX)
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(folder)?;
    file.write_all(bytes)?;
    // The umask may have taken bits from the mode.
    file.as_file().set_permissions(Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_replaces_a_file_and_leaves_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        write_new(&path, b"first").unwrap();
        assert_eq!(write_new(&path, b"second").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs_err::read(&path).unwrap(), b"first");
        assert_eq!(fs_err::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn replacing_keeps_the_old_file_until_the_new_one_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/down/a");
        replace(&path, b"first").unwrap();
        let before = File::open(&path).unwrap();
        replace(&path, b"second").unwrap();
        assert_eq!(fs_err::read(&path).unwrap(), b"second");
        // The rename unlinked the old content and never emptied it: a reader that has it open reads on.
        assert_eq!(io::read_to_string(before).unwrap(), "first");
        assert_eq!(fs_err::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        let taken = folder.path().join("taken");
        fs_err::create_dir(&taken).unwrap();
        assert!(replace(&taken, b"x").is_err());
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 2, "no temporary file stays");
    }
}
