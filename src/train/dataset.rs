//! Class folders on disk: `DATA/<class>/*`, or `DATA/train/<class>/*` and `DATA/val/<class>/*`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    io,
    path::{Path, PathBuf},
};

use rayon::prelude::*;

use super::Warning;
use crate::{
    image::{self, ImageLimits, ImageSource, Picture},
    task::Digest,
};

/// The half of the data that a picture belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Half {
    Train,
    Validation,
}

impl Half {
    /// The folder's name in the layout that gives both halves.
    const fn folder(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "val",
        }
    }
}

/// A readable file of a class folder; whether it is a picture shows when it is decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PictureFile {
    /// Index into [`Dataset::classes`].
    pub class: usize,
    pub path: PathBuf,
    /// SHA-256 of the file.
    pub digest: Digest,
    /// Set where the layout gives both halves.
    pub given_half: Option<Half>,
}

/// Class folders, read. No content is there twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// The folders' names, sorted; at least two.
    pub classes: Vec<String>,
    /// Sorted by class, then by digest, so that names and dates of files change nothing.
    pub pictures: Vec<PictureFile>,
}

#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    #[error("{folder} is no folder; give a folder that holds one folder of pictures per class")]
    NotAFolder { folder: PathBuf },
    #[error("cannot list {folder}: {source}")]
    List { folder: PathBuf, source: io::Error },
    #[error("{folder} has no class folders; put the pictures of each class into {folder}/<class>/")]
    NoClasses { folder: PathBuf },
    #[error(
        "{folder} holds {files} files and no class folders; move the pictures of each class into {folder}/<class>/"
    )]
    FilesWithoutClass { folder: PathBuf, files: usize },
    #[error("{folder} has only one class, {class:?}; a head needs at least two, each in a folder of its own")]
    OneClass { folder: PathBuf, class: String },
    #[error(
        "the name of {path} is not valid UTF-8; a class folder's name becomes the class's label: rename it"
    )]
    NameNotText { path: PathBuf },
    #[error("class {class:?} is in {found} and not in {missing}; both must have the same class folders")]
    OneHalfOnly { class: String, found: PathBuf, missing: PathBuf },
    #[error("{first} and {second} are the same picture in two classes; remove it from the wrong one")]
    TwoClasses { first: PathBuf, second: PathBuf },
    #[error(
        "class {class:?} has {found} readable pictures, at least 2 are wanted; add pictures or remove its folder"
    )]
    TooFew { class: String, found: usize },
    #[error(
        "class {class:?} has no readable picture in the folder {half}; add some or remove the class from both"
    )]
    EmptyHalf { class: String, half: &'static str },
}

struct Found {
    class: usize,
    path: PathBuf,
    half: Option<Half>,
}

impl Dataset {
    /// Reads every file of every class folder once.
    ///
    /// Hidden files are passed over. Folders inside a class, unreadable and empty files and repeated pictures are left
    /// out with a warning each. A picture in both given halves stays in `val` alone: it must not be learned.
    pub fn read(data: &Path, warn: &mut dyn FnMut(Warning)) -> Result<Self, DatasetError> {
        let halves = halves(data)?;
        let folders =
            halves.iter().map(|(_, folder)| class_folders(folder, warn)).collect::<Result<Vec<_>, _>>()?;
        check_same_classes(&halves, &folders)?;
        let classes: Vec<String> = folders.iter().take(1).flat_map(BTreeMap::keys).cloned().collect();
        if let [class] = classes.as_slice() {
            return Err(DatasetError::OneClass { folder: data.to_owned(), class: class.clone() });
        }
        let mut found = Vec::new();
        for ((half, _), folders) in halves.iter().zip(&folders) {
            for (class, folder) in folders.values().enumerate() {
                let files = files_of(folder, warn)?.into_iter();
                found.extend(files.map(|path| Found { class, path, half: *half }));
            }
        }
        let dataset = Self { classes, pictures: unique_pictures(found, warn)? };
        dataset.check(&dataset.pictures)?;
        Ok(dataset)
    }

    /// Whether these pictures of this data set are enough to learn from: two a class, one in each given half.
    pub fn check<'a>(
        &self,
        pictures: impl IntoIterator<Item = &'a PictureFile> + Clone,
    ) -> Result<(), DatasetError> {
        for (class, name) in self.classes.iter().enumerate() {
            let of_class = || pictures.clone().into_iter().filter(move |picture| picture.class == class);
            let found = of_class().count();
            if found < 2 {
                return Err(DatasetError::TooFew { class: name.clone(), found });
            }
            let given: BTreeSet<Half> = of_class().filter_map(|picture| picture.given_half).collect();
            for (half, other) in [(Half::Train, Half::Validation), (Half::Validation, Half::Train)] {
                if given.contains(&other) && !given.contains(&half) {
                    return Err(DatasetError::EmptyHalf { class: name.clone(), half: half.folder() });
                }
            }
        }
        Ok(())
    }
}

/// The folders that hold class folders. Validation comes first: of a picture in both, that one stays.
fn halves(data: &Path) -> Result<Vec<(Option<Half>, PathBuf)>, DatasetError> {
    if !data.is_dir() {
        return Err(DatasetError::NotAFolder { folder: data.to_owned() });
    }
    let has_folders = |folder: &Path| -> Result<bool, DatasetError> {
        Ok(folder.is_dir() && visible_entries(folder)?.iter().any(|path| path.is_dir()))
    };
    let train = data.join(Half::Train.folder());
    let val = data.join(Half::Validation.folder());
    // A class may itself be named train: then it holds files.
    Ok(match (has_folders(&train)?, has_folders(&val)?) {
        (true, true) => vec![(Some(Half::Validation), val), (Some(Half::Train), train)],
        (true, false) => vec![(None, train)],
        (false, _) => vec![(None, data.to_owned())],
    })
}

/// Name and path of each class folder, in the order of the names.
fn class_folders(
    folder: &Path,
    warn: &mut dyn FnMut(Warning),
) -> Result<BTreeMap<String, PathBuf>, DatasetError> {
    let (folders, files): (Vec<_>, Vec<_>) = visible_entries(folder)?.into_iter().partition(|p| p.is_dir());
    if folders.is_empty() {
        let folder = folder.to_owned();
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
    folders.into_iter().map(named).collect()
}

fn check_same_classes(
    halves: &[(Option<Half>, PathBuf)],
    folders: &[BTreeMap<String, PathBuf>],
) -> Result<(), DatasetError> {
    for ((_, found), classes) in halves.iter().zip(folders) {
        for ((_, missing), others) in halves.iter().zip(folders) {
            if let Some(class) = classes.keys().find(|class| !others.contains_key(*class)) {
                let (class, found, missing) = (class.clone(), found.clone(), missing.clone());
                return Err(DatasetError::OneHalfOnly { class, found, missing });
            }
        }
    }
    Ok(())
}

fn files_of(folder: &Path, warn: &mut dyn FnMut(Warning)) -> Result<Vec<PathBuf>, DatasetError> {
    let (folders, files): (Vec<_>, Vec<_>) = visible_entries(folder)?.into_iter().partition(|p| p.is_dir());
    folders.into_iter().for_each(|path| warn(Warning::NestedFolder { path }));
    Ok(files)
}

/// Sorted; names with a leading dot are somebody's work in progress.
fn visible_entries(folder: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let cannot = |source| DatasetError::List { folder: folder.to_owned(), source };
    let mut entries = Vec::new();
    for entry in fs_err::read_dir(folder).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            entries.push(entry.path());
        }
    }
    entries.sort_unstable();
    Ok(entries)
}

fn unique_pictures(
    found: Vec<Found>,
    warn: &mut dyn FnMut(Warning),
) -> Result<Vec<PictureFile>, DatasetError> {
    let digests: Vec<Result<Digest, String>> =
        found.par_iter().map(|file| read_picture(&file.path).map(|bytes| Digest::of(&bytes))).collect();
    let mut pictures: HashMap<Digest, PictureFile> = HashMap::with_capacity(found.len());
    for (Found { class, path, half }, digest) in found.into_iter().zip(digests) {
        let digest = match digest {
            Ok(digest) => digest,
            Err(reason) => {
                warn(Warning::Unreadable { path, reason });
                continue;
            }
        };
        match pictures.entry(digest) {
            Entry::Vacant(vacant) => {
                vacant.insert(PictureFile { class, path, digest, given_half: half });
            }
            // Windows leaves the same desktop.ini in every folder: only pictures can contradict each other.
            Entry::Occupied(first) if first.get().class != class => match read_picture(&path)
                .and_then(decode_picture)
            {
                Ok(_) => {
                    return Err(DatasetError::TwoClasses { first: first.get().path.clone(), second: path });
                }
                Err(reason) => warn(Warning::NoPicture { path, reason }),
            },
            Entry::Occupied(first) => warn(Warning::Repeated { path, first: first.get().path.clone() }),
        }
    }
    let mut pictures: Vec<PictureFile> = pictures.into_values().collect();
    pictures.sort_unstable_by_key(|picture| (picture.class, picture.digest));
    Ok(pictures)
}

/// The file's bytes, or why it can be no picture.
pub(super) fn read_picture(path: &Path) -> Result<Vec<u8>, String> {
    let metadata = fs_err::metadata(path).map_err(|error| error.to_string())?;
    let limit = ImageLimits::default().max_encoded_bytes as u64;
    match metadata.len() {
        _ if !metadata.is_file() => Err("it is no regular file".to_owned()),
        0 => Err("it has 0 bytes".to_owned()),
        found if found > limit => Err(format!("it has {found} bytes, the limit is {limit}")),
        _ => fs_err::read(path).map_err(|error| error.to_string()),
    }
}

/// The picture, or why the bytes are none.
pub(super) fn decode_picture(bytes: Vec<u8>) -> Result<Picture, String> {
    image::decode(&ImageSource::Encoded(bytes.into()), &ImageLimits::default())
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
