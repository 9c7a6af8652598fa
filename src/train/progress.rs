//! Progress events and warnings of a training.

use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use super::{
    deep::{DeepEpoch, StrategyChoice},
    evaluate::{Evaluation, all_right_may_mean},
    gate::Gate,
    linear::{Choice, Epoch},
};
use crate::{
    ids::{Digest, Version},
    image::Levels,
};

/// A step of a training, as its observer sees it.
///
/// Order: dataset, good, levels, features, choice, maps, deep epoch, strategy, epoch, evaluated,
/// gate, published; warnings at any time. `Levels` comes only with pictures of more than 8 bits per
/// channel. `Features` repeats for augmented views and whenever a head with other layers or
/// preprocessing is evaluated. `Epoch` comes only with Adam, `Maps` and `DeepEpoch` only if private
/// layers are trained.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    Dataset {
        classes: &'a [String],
        pictures: usize,
    },
    Good {
        classes: &'a [String],
        /// Whether they are good because their label is ok or good.
        by_name: bool,
    },
    /// Levels of pictures with more than 8 bits; `None` is their full range.
    Levels {
        levels: Option<Levels>,
        /// How many pictures have more than 8 bits.
        pictures: usize,
    },
    Features {
        done: usize,
        total: usize,
        /// How many of `done` needed no forward pass.
        cached: usize,
    },
    Choice(&'a Choice),
    Epoch(&'a Epoch),
    /// Feature maps of the trunk, for fine-tuning.
    Maps {
        done: usize,
        total: usize,
        /// How many of `done` needed no forward pass.
        cached: usize,
    },
    DeepEpoch(&'a DeepEpoch),
    Strategy(&'a StrategyChoice),
    Evaluated(&'a Evaluation),
    Gate(&'a Gate),
    Published {
        version: Version,
        digest: Digest,
        #[serde(serialize_with = "as_text")]
        path: &'a Path,
        accuracy: f64,
    },
    Warning(Warning),
}

/// A problem that does not stop the training but that the user should know about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Warning {
    #[error("skipped {path}: {reason}")]
    Unreadable {
        #[serde(serialize_with = "as_text")]
        path: PathBuf,
        reason: String,
    },
    #[error("skipped {path}: {reason}")]
    NoPicture {
        #[serde(serialize_with = "as_text")]
        path: PathBuf,
        reason: String,
    },
    #[error("skipped {path}: same picture as {first}")]
    Repeated {
        #[serde(serialize_with = "as_text")]
        path: PathBuf,
        #[serde(serialize_with = "as_text")]
        first: PathBuf,
    },
    #[error("skipped {path}: outside the class folders")]
    OutsideClasses {
        #[serde(serialize_with = "as_text")]
        path: PathBuf,
    },
    #[error(
        "skipped {path}: folders inside a class folder are not read, and {files} files lie there"
    )]
    NestedFolder {
        #[serde(serialize_with = "as_text")]
        path: PathBuf,
        files: usize,
    },
    #[error(
        "classes {first:?} and {second:?} differ only in upper and lower case; if they are one \
         class, give them one name"
    )]
    CaseTwins { first: String, second: String },
    #[error(
        "class {class:?} has only {pictures} pictures, {validation} of them for validation; a head \
         that is right on every one of these may still find only {:.0} % of the class (95 % \
         interval): add pictures, or try the head on many before you rely on it",
        100.0 * all_right_may_mean(*.validation)
    )]
    FewPictures { class: String, pictures: usize, validation: usize },
    #[error(
        "{pictures} pictures have an EXIF orientation, such as {first}: it is ignored, in training \
         and in serving; if the line sends upright pixels, turn these first"
    )]
    Oriented {
        pictures: usize,
        #[serde(serialize_with = "as_text")]
        first: PathBuf,
    },
    #[error("{pictures} pictures have several pages, such as {first}: only the first is used")]
    SeveralPages {
        pictures: usize,
        #[serde(serialize_with = "as_text")]
        first: PathBuf,
    },
    #[error(
        "{pictures} pictures have more than 8 bits, but their samples, at most {max}, do not tell \
         how many: the full range is used, and pictures may be dark; set the levels of your \
         camera, such as --levels 0:4095 for 12 bits"
    )]
    LevelsUnknown { pictures: usize, max: u16 },
    #[error("skipped {pictures} test pictures; `fine-tune evaluate` evaluates a head on them")]
    LeftForTest { pictures: usize },
    #[error(
        "cannot write the feature cache {path}: {reason}; the next run computes its features again"
    )]
    CacheNotWritten {
        #[serde(serialize_with = "as_text")]
        path: PathBuf,
        reason: String,
    },
    #[error("cannot write a checkpoint into {path}: {reason}; a stopped training cannot resume")]
    NoCheckpoint {
        #[serde(serialize_with = "as_text")]
        path: PathBuf,
        reason: String,
    },
    #[error(
        "no class is good, so nothing will ever pass; name one with --good, known classes: {}",
        .known.join(", ")
    )]
    NothingPasses { known: Vec<String> },
}

/// Serialises a path as text: whatever is not UTF-8 in it is replaced, as JSON has no bytes.
fn as_text<S: Serializer>(path: impl AsRef<Path>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.as_ref().to_string_lossy())
}
