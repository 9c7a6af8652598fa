//! Why no head came of a training.

use std::{io, path::PathBuf};

use super::{
    data::DatasetError,
    deep::StrategyReason,
    gate::{Comparison, SIGNIFICANCE},
};
use crate::{
    base::{BaseError, BaseIdentity},
    ids::TaskName,
    image::ImageError,
    store::PublishError,
};

#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    #[error("class {class:?} of --good is none of {data}; known are {}", .known.join(", "))]
    UnknownGood { class: String, data: PathBuf, known: Vec<String> },
    #[error(
        "cannot use {folder}, where the head is to be published: {source}; nothing was published"
    )]
    HeadsFolder { folder: PathBuf, source: io::Error },
    #[error("the preprocessing is not valid: {0}")]
    Preprocess(#[from] ImageError),
    #[error("the base failed: {0}")]
    Base(#[from] BaseError),
    #[error("the base gave fewer features than it has")]
    FeaturesMissing,
    #[error("cannot keep maps of the trunk in {folder}: {source}; nothing was published")]
    Maps { folder: PathBuf, source: io::Error },
    #[error(
        "fine-tuning keeps {needed} bytes of maps for {views} pictures and views, {limit} are allowed; raise --map-limit, use \
         --augment none, or --strategy feature-extraction"
    )]
    MapsOverLimit { views: usize, needed: u64, limit: u64 },
    #[error(
        "--strategy fine-tune cannot be done here: {because}; use --strategy feature-extraction"
    )]
    CannotFineTune { because: StrategyReason },
    #[error("training diverged at learning rate {learning_rate}; try a lower --learning-rate")]
    Diverged { learning_rate: f32 },
    #[error("the trained numbers are no linear classifier: {detail}")]
    Classifier { detail: String },
    #[error(
        "the new head of {task} is worse than version {}, which serves: of {} pictures kept back it alone is right on {}, \
         version {} alone on {} (p = {:.2}, the bar is {SIGNIFICANCE}); nothing was published; add pictures, or publish it \
         all the same with --force --reason TEXT",
        .comparison.version, .comparison.pictures, .comparison.only_new_right, .comparison.version,
        .comparison.only_serving_right, .comparison.p_worse
    )]
    WorseThanServing { task: TaskName, comparison: Comparison },
    #[error(
        "the head was trained on base {} {}, --base is {} {}; give the base that it was trained on",
        trained_on.architecture, trained_on.digest.short(), given.architecture, given.digest.short()
    )]
    OtherBase { trained_on: BaseIdentity, given: BaseIdentity },
    #[error("class {label:?} of the pictures is none of the head's; known are {}", .known.join(", "))]
    UnknownLabel { label: String, known: Vec<String> },
    #[error("{data} has no pictures{}", .part.map(|part| format!(" for {part}")).unwrap_or_default())]
    NothingToJudge { data: PathBuf, part: Option<&'static str> },
    #[error(transparent)]
    Publish(#[from] PublishError),
}
