//! What can be wrong with a data set, and how to mend it.

use std::{fmt, io, path::PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    #[error(
        "{folder} is no folder; give a folder that holds one folder of pictures per class, or a .csv or .jsonl file"
    )]
    NotAFolder { folder: PathBuf },
    #[error("cannot list {folder}: {source}")]
    List { folder: PathBuf, source: io::Error },
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{folder} has no class folders; put the pictures of each class into {folder}/<class>/")]
    NoClasses { folder: PathBuf },
    #[error(
        "{folder} holds {files} files and no class folders; move the pictures of each class into {folder}/<class>/"
    )]
    FilesWithoutClass { folder: PathBuf, files: usize },
    #[error("{data} has only one class, {class:?}; a head needs at least two")]
    OneClass { data: PathBuf, class: String },
    #[error("{data} names no picture")]
    NoPictures { data: PathBuf },
    #[error(
        "the name of {path} is not valid UTF-8; a class folder's name becomes the class's label: rename it"
    )]
    NameNotText { path: PathBuf },
    #[error(
        "class {class:?} is in {found} and not in {missing}; both must have the same class folders"
    )]
    OneHalfOnly { class: String, found: PathBuf, missing: PathBuf },
    #[error(
        "{first} and {second} are the same picture in two classes; remove it from the wrong one"
    )]
    TwoClasses { first: PathBuf, second: PathBuf },
    #[error(
        "class {class:?} has {found} readable pictures, at least 2 are wanted; add pictures or remove the class"
    )]
    TooFew { class: String, found: usize },
    #[error(
        "class {class:?} has no readable picture in {half}; add some or remove the class from both"
    )]
    EmptyHalf { class: String, half: &'static str },
    #[error(
        "group {group:?} has pictures in train and in val, {first} and {second}; pictures of one part must stand on one side"
    )]
    DividedGroup { group: String, first: PathBuf, second: PathBuf },
    #[error(
        "the pictures of class {class:?} cannot be divided without dividing a group; add pictures of other parts, or group them otherwise"
    )]
    TooFewGroups { class: String },
    #[error(
        "--group {column:?} names a column, and {folder} is a folder, which has none; use --group stem or a .csv file"
    )]
    NoColumns { column: String, folder: PathBuf },
    #[error("{path} has to be mended: {mistakes}")]
    Manifest { path: PathBuf, mistakes: Mistakes },
}

/// What is wrong with a file, each with its line.
#[derive(Debug, Default)]
pub struct Mistakes(pub Vec<(u64, String)>);

/// More are counted and not shown.
const SHOWN: usize = 20;

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(mistakes) = self;
        mistakes
            .iter()
            .take(SHOWN)
            .try_for_each(|(line, mistake)| write!(f, "\n  line {line}: {mistake}"))?;
        match mistakes.len().checked_sub(SHOWN) {
            Some(more @ 1..) => write!(f, "\n  and {more} more"),
            Some(0) | None => Ok(()),
        }
    }
}
