//! Folders of pictures, in one of three layouts.
//!
//! `DATA/<class>/*`, `DATA/{train,val,test}/<class>/*`, or MVTec's `train/good`, `test/<defect>`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::{DatasetError, GroupBy, Listed, Part};
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
/// Hidden files are ignored. Folders inside a class folder, and anything beside the class folders,
/// are skipped with a warning each.
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
            let (folders, files) = visible_entries(&folder)?;
            folders.into_iter().for_each(|path| warn(Warning::NestedFolder { path }));
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

fn part_folders(
    data: &Path,
    warn: &mut dyn FnMut(Warning),
) -> Result<Vec<PartFolder>, DatasetError> {
    let folder_of = |part: Part| data.join(part.name());
    let has = |part: Part| -> Result<bool, DatasetError> {
        let folder = folder_of(part);
        Ok(folder.is_dir() && !visible_entries(&folder)?.0.is_empty())
    };
    // A class may itself be named train; it then holds files instead of folders.
    if !has(Part::Train)? {
        return Ok(vec![part_folder(None, data.to_owned(), warn)?]);
    }
    let (folders, files) = visible_entries(data)?;
    let known = |path: &PathBuf| {
        Part::ALL.iter().any(|part| *path == folder_of(*part)) || path.ends_with(MASKS)
    };
    let outside = folders.into_iter().filter(|path| !known(path)).chain(files);
    outside.for_each(|path| warn(Warning::OutsideClasses { path }));
    let train = part_folder(None, folder_of(Part::Train), warn)?;
    let validation = has(Part::Validation)?
        .then(|| part_folder(Some(Part::Validation), folder_of(Part::Validation), warn))
        .transpose()?;
    let test = has(Part::Test)?
        .then(|| part_folder(Some(Part::Test), folder_of(Part::Test), warn))
        .transpose()?;
    match (validation, test) {
        // MVTec has only good pictures in train and the defects in test; both are split as one set.
        (None, Some(test)) if train.classes.len() == 1 => {
            Ok(vec![PartFolder { part: None, ..test }, train])
        }
        (None, test) => {
            check_same_classes(&[&train], test.as_ref())?;
            Ok(test.into_iter().chain([train]).collect())
        }
        (Some(validation), test) => {
            check_same_classes(&[&validation, &train], test.as_ref())?;
            let train = PartFolder { part: Some(Part::Train), ..train };
            Ok(test.into_iter().chain([validation, train]).collect())
        }
    }
}

fn part_folder(
    part: Option<Part>,
    folder: PathBuf,
    warn: &mut dyn FnMut(Warning),
) -> Result<PartFolder, DatasetError> {
    let (folders, files) = visible_entries(&folder)?;
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

/// Checks that all `halves` have the same classes, and that `test` has no others.
fn check_same_classes(
    halves: &[&PartFolder],
    test: Option<&PartFolder>,
) -> Result<(), DatasetError> {
    for part_folder in halves.iter().copied().chain(test) {
        for other in halves {
            let others: BTreeSet<&String> = other.classes.keys().collect();
            if let Some(class) = part_folder.classes.keys().find(|class| !others.contains(class)) {
                let (class, found, missing) =
                    (class.clone(), part_folder.folder.clone(), other.folder.clone());
                return Err(DatasetError::OneHalfOnly { class, found, missing });
            }
        }
    }
    Ok(())
}

/// Returns the folders and the files in `folder`, each sorted, without hidden ones.
fn visible_entries(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), DatasetError> {
    let cannot = |source| DatasetError::List { folder: folder.to_owned(), source };
    let mut entries = Vec::new();
    for entry in fs_err::read_dir(folder).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            entries.push(entry.path());
        }
    }
    entries.sort_unstable();
    Ok(entries.into_iter().partition(|path| path.is_dir()))
}
