//! What can be wrong with a data set, and how to fix it.

use std::{io, path::PathBuf};

use turret_client::cli::printing::ErrorLines;

#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    #[error(
        "{folder} is not a folder; give a folder that holds one folder of pictures per class, or a \
         list: a .csv, .tsv or .jsonl file"
    )]
    NotAFolder { folder: PathBuf },
    #[error("cannot list {folder}: {source}")]
    List { folder: PathBuf, source: io::Error },
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{folder} has no class folders; put the pictures of each class into {folder}/<class>/")]
    NoClasses { folder: PathBuf },
    #[error(
        "{folder} holds {files} files and no class folders; move the pictures of each class into \
         {folder}/<class>/"
    )]
    FilesWithoutClass { folder: PathBuf, files: usize },
    #[error("class {class:?} has no picture in its folder {folder}{}", because_empty(.found))]
    EmptyClass { class: String, folder: PathBuf, found: Unread },
    #[error(
        "{link} is a link to {target}, which is not there; restore what it leads to, or remove \
         the link"
    )]
    BrokenLink { link: PathBuf, target: PathBuf },
    #[error(
        "{first} and {second} are both folders of {part} pictures; move all of them into one and \
         remove the other"
    )]
    TwoFolders { part: &'static str, first: PathBuf, second: PathBuf },
    #[error(
        "classes {first:?} and {second:?} look the same but are written differently, {} and {}; \
         give them one name, or clearly different ones",
        spelled(.first), spelled(.second)
    )]
    TwinClasses { first: String, second: String },
    #[error("{data} has only one class, {class:?}; a head needs at least two")]
    OneClass { data: PathBuf, class: String },
    #[error("{data} lists no pictures")]
    NoPictures { data: PathBuf },
    #[error(
        "folder name of {path} is not valid UTF-8; rename it, because it becomes the class's label"
    )]
    NameNotText { path: PathBuf },
    #[error(
        "class {class:?} is in {found} but not in {missing}; both must have the same class folders"
    )]
    OneHalfOnly { class: String, found: PathBuf, missing: PathBuf },
    #[error(
        "{first} and {second} are the same picture in two classes; remove it from the wrong one"
    )]
    TwoClasses { first: PathBuf, second: PathBuf },
    #[error(
        "class {class:?} has {found} readable picture{}{}, expected at least 2; add pictures or \
         remove the class",
        if *.found == 1 { "" } else { "s" }, beside(.not_pictures)
    )]
    TooFew { class: String, found: usize, not_pictures: Vec<PathBuf> },
    #[error(
        "class {class:?} has no readable picture in {half}; add some, or remove the class from \
         train and val"
    )]
    EmptyHalf { class: String, half: &'static str },
    #[error(
        "group {group:?} is in both train and val, with {first} and {second}; put all pictures of \
         a group on one side"
    )]
    DividedGroup { group: String, first: PathBuf, second: PathBuf },
    #[error(
        "class {class:?} cannot be split into train and val without splitting a group; add \
         pictures of other groups, or group them differently"
    )]
    TooFewGroups { class: String },
    #[error(
        "--group {column:?} names a column, but {folder} is a folder and has none; use --group \
         stem or a .csv file"
    )]
    NoColumns { column: String, folder: PathBuf },
    #[error("invalid list of pictures {path}:{mistakes}")]
    Manifest {
        path: PathBuf,
        #[source]
        mistakes: ErrorLines,
    },
}

/// What lies in a class folder beside pictures.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unread {
    /// Number of files in its sub-folders, at any depth.
    pub nested: usize,
    /// The first sub-folder, or the folder in it, that holds such files.
    pub nested_in: PathBuf,
    /// Number of files that are hidden.
    pub hidden: usize,
}

/// Says what there is instead of pictures, and what to do.
fn because_empty(found: &Unread) -> String {
    match found {
        Unread { nested: 0, hidden: 0, .. } => "; add pictures, or remove the folder".to_owned(),
        Unread { nested: 0, hidden, .. } => format!(
            ", only {hidden} hidden files, whose names begin with a dot; rename them, add \
             pictures, or remove the folder"
        ),
        Unread { nested, nested_in, .. } => format!(
            ": {nested} files lie in sub-folders such as {}, which are not read; move them up, or \
             name them in a .csv or .jsonl list",
            nested_in.display()
        ),
    }
}

/// Says which files of a class are no pictures.
fn beside(not_pictures: &[PathBuf]) -> String {
    match not_pictures {
        [] => String::new(),
        [file] => format!(" (1 file is not a picture: {})", file.display()),
        [first, ..] => {
            let files = not_pictures.len();
            format!(" ({files} files are not pictures, such as {})", first.display())
        }
    }
}

/// Returns the name in quotes, with every character spelled out that is not plain ASCII.
pub(crate) fn spelled(name: &str) -> String {
    format!("\"{}\"", name.escape_default())
}

/// The mistakes in a list, each with its line number.
#[derive(Debug, Default)]
pub(super) struct Mistakes(pub(super) Vec<(u64, String)>);

/// Number of mistakes shown; the rest are only counted.
const SHOWN: usize = 20;

impl From<Mistakes> for ErrorLines {
    fn from(Mistakes(mut mistakes): Mistakes) -> Self {
        mistakes.sort_by_key(|(line, _)| *line);
        let shown = mistakes.iter().take(SHOWN);
        let more = mistakes.len().checked_sub(SHOWN).filter(|more| *more > 0);
        let lines = shown.map(|(line, mistake)| format!("line {line}: {mistake}"));
        Self(lines.chain(more.map(|more| format!("and {more} more"))).collect())
    }
}
