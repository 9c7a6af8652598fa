//! Folders of pictures, in one of three layouts.
//!
//! `DATA/<class>/*`, `DATA/{train,val,test}/<class>/*`, or MVTec's `train/good`, `test/<defect>`.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    path::{Path, PathBuf},
};

use super::{DatasetError, GroupBy, Listed, Part, class_names, error::Unread};
use crate::train::progress::Warning;

/// A folder of class folders, and the part that it assigns to its pictures, if any.
struct PartFolder {
    part: Option<Part>,
    folder: PathBuf,
    /// Path of each class folder by its name.
    classes: BTreeMap<String, PathBuf>,
}

/// MVTec's folder of defect masks, which are not training pictures.
const MASKS: &str = "ground_truth";

/// Lists every file of every class folder.
///
/// Hidden files are ignored. Files in folders inside a class folder, and anything beside the class
/// folders, are skipped with a warning each. A class folder without any other file is an error, and
/// so is a broken link where a class folder could be.
pub(super) fn read(
    data: &Path,
    group_by: &GroupBy,
    warn: &mut dyn FnMut(Warning),
) -> Result<Vec<Listed>, DatasetError> {
    if !data.is_dir() {
        return Err(DatasetError::NotAFolder { folder: data.to_owned() });
    }
    if let GroupBy::Column(column) = group_by {
        return Err(DatasetError::NoColumns { column: column.clone(), folder: data.to_owned() });
    }
    let mut listed = Vec::new();
    for part_folder in part_folders(data, warn)? {
        for (label, folder) in part_folder.classes {
            let files = class_files(&label, &folder, warn)?;
            listed.extend(files.into_iter().map(|path| Listed {
                label: label.clone(),
                given: part_folder.part,
                group: None,
                weight: 1.0,
                path,
            }));
        }
    }
    Ok(listed)
}

/// Returns the files of a class; there is at least one.
fn class_files(
    class: &str,
    folder: &Path,
    warn: &mut dyn FnMut(Warning),
) -> Result<Vec<PathBuf>, DatasetError> {
    let Entries { folders, files, hidden } = entries(folder)?;
    let nested: Vec<Vec<PathBuf>> = folders.iter().map(|folder| files_below(folder)).collect();
    if files.is_empty() {
        let first = nested.iter().flatten().next().and_then(|file| file.parent());
        let found = Unread {
            nested: nested.iter().map(Vec::len).sum(),
            nested_in: first.unwrap_or(folder).to_owned(),
            hidden: hidden.iter().filter(|path| path.is_file()).count(),
        };
        let (class, folder) = (class.to_owned(), folder.to_owned());
        return Err(DatasetError::EmptyClass { class, folder, found });
    }
    for (path, files) in folders.into_iter().zip(nested).filter(|(_, files)| !files.is_empty()) {
        warn(Warning::NestedFolder { path, files: files.len() });
    }
    Ok(files)
}

/// Returns the files at any depth that are neither hidden nor in a hidden folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let is_visible =
        |entry: &walkdir::DirEntry| entry.depth() == 0 || !is_hidden(entry.file_name());
    let entries = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter();
    let readable = entries.filter_entry(is_visible).filter_map(Result::ok);
    readable.filter(|entry| !entry.file_type().is_dir()).map(walkdir::DirEntry::into_path).collect()
}

fn part_folders(
    data: &Path,
    warn: &mut dyn FnMut(Warning),
) -> Result<Vec<PartFolder>, DatasetError> {
    let Entries { folders, files, .. } = entries_without_broken_links(data)?;
    let part_of = |path: &PathBuf| path.file_name()?.to_str().and_then(Part::of_word);
    let has_folders = |path: &PathBuf| Ok(!entries(path)?.folders.is_empty());
    // A class may itself be named train; it then holds files instead of folders.
    let mut is_divided = false;
    for path in folders.iter().filter(|path| part_of(path) == Some(Part::Train)) {
        is_divided |= has_folders(path)?;
    }
    if !is_divided {
        let undivided = part_folder(None, data.to_owned(), warn)?;
        class_names::refuse_twins(undivided.classes.keys())?;
        return Ok(vec![undivided]);
    }
    let mut of_parts: BTreeMap<Part, PathBuf> = BTreeMap::new();
    let mut outside = files;
    for path in folders {
        match part_of(&path) {
            // Pictures to be judged later often lie in test without classes.
            Some(Part::Test) if !has_folders(&path)? => outside.push(path),
            Some(part) => {
                let second = path.clone();
                if let Some(first) = of_parts.insert(part, path) {
                    return Err(DatasetError::TwoFolders { part: part.name(), first, second });
                }
            }
            None if path.ends_with(MASKS) => {}
            None => outside.push(path),
        }
    }
    outside.into_iter().for_each(|path| warn(Warning::OutsideClasses { path }));
    let mut parts = Vec::new();
    for (part, folder) in of_parts {
        parts.push(part_folder(Some(part), folder, warn)?);
    }
    class_names::refuse_twins(parts.iter().flat_map(|part| part.classes.keys()))?;
    let has_defects_in_test_only = match parts.as_slice() {
        // MVTec has only good pictures in train and the defects in test; both are split as one set.
        [train, test] => train.classes.len() == 1 && test.part == Some(Part::Test),
        _ => false,
    };
    if has_defects_in_test_only {
        parts.iter_mut().for_each(|part| part.part = None);
    } else {
        check_same_classes(&parts)?;
    }
    Ok(parts)
}

fn part_folder(
    part: Option<Part>,
    folder: PathBuf,
    warn: &mut dyn FnMut(Warning),
) -> Result<PartFolder, DatasetError> {
    let Entries { folders, files, .. } = entries_without_broken_links(&folder)?;
    if folders.is_empty() {
        return Err(match files.len() {
            0 => DatasetError::NoClasses { folder },
            files => DatasetError::FilesWithoutClass { folder, files },
        });
    }
    files.into_iter().for_each(|path| warn(Warning::OutsideClasses { path }));
    let named = |path: PathBuf| match path.file_name().and_then(|name| name.to_str()) {
        Some(name) => Ok((name.to_owned(), path)),
        None => Err(DatasetError::NameNotText { path }),
    };
    let classes = folders.into_iter().map(named).collect::<Result<_, _>>()?;
    Ok(PartFolder { part, folder, classes })
}

/// Checks that train and val have the same classes, and that test has no others.
fn check_same_classes(parts: &[PartFolder]) -> Result<(), DatasetError> {
    let is_half = |part: &&PartFolder| part.part != Some(Part::Test);
    for PartFolder { folder: found, classes, .. } in parts {
        for half in parts.iter().filter(is_half) {
            if let Some(class) = classes.keys().find(|class| !half.classes.contains_key(*class)) {
                let (class, found, missing) = (class.clone(), found.clone(), half.folder.clone());
                return Err(DatasetError::OneHalfOnly { class, found, missing });
            }
        }
    }
    Ok(())
}

/// What lies in a folder, each list sorted.
struct Entries {
    folders: Vec<PathBuf>,
    files: Vec<PathBuf>,
    hidden: Vec<PathBuf>,
}

fn entries(folder: &Path) -> Result<Entries, DatasetError> {
    let cannot = |source| DatasetError::List { folder: folder.to_owned(), source };
    let (mut visible, mut hidden) = (Vec::new(), Vec::new());
    for entry in fs_err::read_dir(folder).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        let list = if is_hidden(&entry.file_name()) { &mut hidden } else { &mut visible };
        list.push(entry.path());
    }
    hidden.sort_unstable();
    visible.sort_unstable();
    let (folders, files) = visible.into_iter().partition(|path| path.is_dir());
    Ok(Entries { folders, files, hidden })
}

/// As [`entries`], for a folder where a broken link may stand for a whole class.
fn entries_without_broken_links(folder: &Path) -> Result<Entries, DatasetError> {
    let found = entries(folder)?;
    match found.files.iter().find(|path| path.is_symlink() && !path.exists()) {
        Some(link) => Err(DatasetError::BrokenLink {
            link: link.clone(),
            target: fs_err::read_link(link).unwrap_or_default(),
        }),
        None => Ok(found),
    }
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}
