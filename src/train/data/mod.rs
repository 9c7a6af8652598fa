//! Labelled pictures, from folders or from a list; no two have the same content.

pub(crate) mod augment;
mod class_names;
mod error;
mod folders;
mod group;
mod manifest;
pub(crate) mod split;

pub use augment::Augment;
pub(crate) use class_names::look_the_same;
use error::Mistakes;
pub(crate) use error::spelled;
pub use error::{DatasetError, Unread};
pub use group::GroupBy;

use std::{
    collections::{BTreeSet, HashMap, hash_map::Entry},
    path::{Path, PathBuf},
    str::FromStr,
};

use rayon::prelude::*;

use crate::{
    error::ParseNameError,
    ids::Digest,
    image::{self, Decoded, ImageLimits, ImageSource},
    train::progress::Warning,
};

/// What a picture is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The head is fitted to it.
    Train,
    /// The fitted head is evaluated on it.
    Validation,
    /// Training never uses it; `fine-tune evaluate` does.
    Test,
}

impl Part {
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// Returns the name of the part's folder, which is also its word in the column `split`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "val",
            Self::Test => "test",
        }
    }

    /// Returns the part that a folder or the column `split` names by this word, in any case.
    pub(crate) fn of_word(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "train" => Some(Self::Train),
            "val" | "valid" | "validation" => Some(Self::Validation),
            "test" => Some(Self::Test),
            _ => None,
        }
    }
}

impl FromStr for Part {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::of_word(text).ok_or_else(|| {
            ParseNameError::new("part of a data set", text, &Self::ALL.map(Self::name))
        })
    }
}

/// A readable file of a class, not yet decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct PictureFile {
    /// Index into [`Dataset::classes`].
    pub class: usize,
    pub path: PathBuf,
    /// SHA-256 of the file.
    pub digest: Digest,
    /// The part that the data set assigns, if any.
    pub given: Option<Part>,
    /// Pictures of one group show the same object; without a group a picture is its own group.
    pub group: Option<String>,
    /// Weight in the training loss.
    pub weight: f32,
}

impl PictureFile {
    /// Returns a digest that is equal for all pictures of a group.
    pub fn group_digest(&self) -> Digest {
        self.group.as_ref().map_or(self.digest, |group| Digest::of(group.as_bytes()))
    }
}

/// Labelled pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// The folder, or the file that lists the pictures.
    pub data: PathBuf,
    /// Sorted.
    pub classes: Vec<String>,
    /// Sorted by class, then by digest, so that file names and dates have no influence.
    pub pictures: Vec<PictureFile>,
}

/// A file found in a folder or named by a list, not read yet.
struct Listed {
    label: String,
    path: PathBuf,
    given: Option<Part>,
    group: Option<String>,
    weight: f32,
}

impl Dataset {
    /// Reads every file in the folder or the list once.
    ///
    /// Unreadable files, empty files and repeated pictures are skipped with a warning each. A
    /// picture in several parts stays in test, else in validation, so that it is not trained on.
    pub fn read(
        data: &Path,
        group_by: &GroupBy,
        warn: &mut dyn FnMut(Warning),
    ) -> Result<Self, DatasetError> {
        let mut listed = if manifest::is_manifest(data) && !data.is_dir() {
            manifest::read(data, group_by)?
        } else {
            folders::read(data, group_by, warn)?
        };
        if *group_by == GroupBy::Stem {
            listed.iter_mut().for_each(|file| file.group = group::stem_group(&file.path));
        }
        let classes: BTreeSet<String> = listed.iter().map(|file| file.label.clone()).collect();
        let classes: Vec<String> = classes.into_iter().collect();
        class_names::refuse_twins(&classes)?;
        class_names::warn_of_case_twins(&classes, warn);
        if !listed.iter().any(|file| file.given == Some(Part::Validation)) {
            // No validation set: the training pictures are split like any others.
            listed
                .iter_mut()
                .filter(|file| file.given == Some(Part::Train))
                .for_each(|file| file.given = None);
        }
        // Test, validation, training: of a picture in several parts, the first is kept.
        listed.sort_by_key(|file| std::cmp::Reverse(file.given));
        let pictures = unique_pictures(listed, &classes, warn)?;
        Ok(Self { data: data.to_owned(), classes, pictures })
    }

    /// Checks that these pictures of the data set suffice for training.
    ///
    /// There must be two classes and two pictures per class, one in each of train and val if these
    /// are given, and no group in more than one part.
    pub fn check<'a>(
        &self,
        pictures: impl IntoIterator<Item = &'a PictureFile> + Clone,
    ) -> Result<(), DatasetError> {
        match self.classes.as_slice() {
            [] => return Err(DatasetError::NoPictures { data: self.data.clone() }),
            [class] => {
                return Err(DatasetError::OneClass {
                    data: self.data.clone(),
                    class: class.clone(),
                });
            }
            [_, _, ..] => {}
        }
        for (class, name) in self.classes.iter().enumerate() {
            let of_class =
                || pictures.clone().into_iter().filter(move |picture| picture.class == class);
            if of_class().count() < 2 {
                return Err(self.too_few(class, name, of_class()));
            }
            let given: BTreeSet<Option<Part>> = of_class().map(|picture| picture.given).collect();
            for half in [Part::Train, Part::Validation] {
                if !given.contains(&None) && !given.contains(&Some(half)) {
                    return Err(DatasetError::EmptyHalf { class: name.clone(), half: half.name() });
                }
            }
        }
        check_groups(pictures)
    }

    /// Decodes the files of a class to tell what they are.
    fn too_few<'a>(
        &self,
        class: usize,
        name: &str,
        pictures: impl Iterator<Item = &'a PictureFile>,
    ) -> DatasetError {
        let is_picture = |path: &Path| read_picture(path).and_then(decode_picture).is_ok();
        let files = self.pictures.iter().filter(|picture| picture.class == class);
        DatasetError::TooFew {
            class: name.to_owned(),
            found: pictures.filter(|picture| is_picture(&picture.path)).count(),
            not_pictures: files
                .map(|picture| picture.path.clone())
                .filter(|path| !is_picture(path))
                .collect(),
        }
    }
}

fn check_groups<'a>(
    pictures: impl IntoIterator<Item = &'a PictureFile>,
) -> Result<(), DatasetError> {
    let mut first_of: HashMap<&str, &PictureFile> = HashMap::new();
    for picture in pictures {
        let (Some(group), Some(given)) = (&picture.group, picture.given) else { continue };
        let first = first_of.entry(group).or_insert(picture);
        if first.given != Some(given) {
            let (first, second) = (first.path.clone(), picture.path.clone());
            return Err(DatasetError::DividedGroup { group: group.clone(), first, second });
        }
    }
    Ok(())
}

fn unique_pictures(
    listed: Vec<Listed>,
    classes: &[String],
    warn: &mut dyn FnMut(Warning),
) -> Result<Vec<PictureFile>, DatasetError> {
    let digests: Vec<Result<Digest, String>> = listed
        .par_iter()
        .map(|file| read_picture(&file.path).map(|bytes| Digest::of(&bytes)))
        .collect();
    let mut pictures: HashMap<Digest, PictureFile> = HashMap::with_capacity(listed.len());
    for (Listed { label, path, given, group, weight }, digest) in listed.into_iter().zip(digests) {
        let digest = match digest {
            Ok(digest) => digest,
            Err(reason) => {
                warn(Warning::Unreadable { path, reason });
                continue;
            }
        };
        let class = classes.partition_point(|known| *known < label);
        match pictures.entry(digest) {
            Entry::Vacant(vacant) => {
                vacant.insert(PictureFile { class, path, digest, given, group, weight });
            }
            // Only pictures can contradict: Windows puts the same desktop.ini into every folder.
            Entry::Occupied(first) if first.get().class != class => {
                match read_picture(&path).and_then(decode_picture) {
                    Ok(_) => {
                        return Err(DatasetError::TwoClasses {
                            first: first.get().path.clone(),
                            second: path,
                        });
                    }
                    Err(reason) => warn(Warning::NoPicture { path, reason }),
                }
            }
            Entry::Occupied(first) => {
                warn(Warning::Repeated { path, first: first.get().path.clone() })
            }
        }
    }
    let mut pictures: Vec<PictureFile> = pictures.into_values().collect();
    pictures.sort_unstable_by_key(|picture| (picture.class, picture.digest));
    Ok(pictures)
}

/// Returns the file's bytes, or why it cannot be a picture.
pub(crate) fn read_picture(path: &Path) -> Result<Vec<u8>, String> {
    let metadata = fs_err::metadata(path).map_err(|error| error.to_string())?;
    let limit = ImageLimits::default().max_encoded_bytes as u64;
    match metadata.len() {
        _ if !metadata.is_file() => Err("not a regular file".to_owned()),
        0 => Err("file has 0 bytes".to_owned()),
        found if found > limit => Err(format!("file has {found} bytes, limit is {limit}")),
        _ => fs_err::read(path).map_err(|error| error.to_string()),
    }
}

/// Returns the decoded picture, or why the bytes are not one.
pub(crate) fn decode_picture(bytes: Vec<u8>) -> Result<Decoded, String> {
    image::decode(&ImageSource::Encoded(bytes.into()), &ImageLimits::default())
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
