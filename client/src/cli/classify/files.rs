//! Finds the picture files.

use std::path::{Path, PathBuf};

use anyhow::ensure;

/// Lists the given files and those in folders at any depth, sorted by name within a folder.
///
/// Skips names in folders that begin with a dot.
///
/// # Errors
/// If a file or folder cannot be read, or there is no file at all.
pub(super) fn list(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let files = list_recursively(paths)?;
    let searched = || {
        let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        names.join(", ")
    };
    ensure!(!files.is_empty(), "no pictures in {}: give files, or folders with files", searched());
    Ok(files)
}

fn list_recursively(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if fs_err::metadata(path)?.is_dir() {
            let mut inside = fs_err::read_dir(path)?
                .map(|entry| entry.map(|entry| entry.path()))
                .collect::<Result<Vec<_>, _>>()?;
            inside.retain(|path| {
                let name = path.file_name().unwrap_or_default();
                !name.as_encoded_bytes().starts_with(b".")
            });
            inside.sort();
            files.extend(list_recursively(&inside)?);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

/// Returns the name of the file's folder: its class among labelled pictures.
pub(super) fn folder_name(file: &Path) -> String {
    file.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned()
}
