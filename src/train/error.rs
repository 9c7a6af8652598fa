//! Why a training or an evaluation failed.

use std::{io, path::PathBuf};

use super::{
    data::{DatasetError, look_the_same, spelled},
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
    #[error(
        "unknown class {class:?} in --good, expected one of the classes in {data}: {}{}",
        .known.join(", "), written_differently(.class, .known)
    )]
    UnknownGood { class: String, data: PathBuf, known: Vec<String> },
    #[error("cannot use the heads folder {folder}: {source}; nothing was published")]
    HeadsFolder { folder: PathBuf, source: io::Error },
    #[error("invalid preprocessing: {0}")]
    Preprocess(#[from] ImageError),
    #[error("base failed: {0}")]
    Base(#[from] BaseError),
    #[error("base returned fewer features than it declares")]
    FeaturesMissing,
    #[error("cannot store the trunk's feature maps in {folder}: {source}; nothing was published")]
    Maps { folder: PathBuf, source: io::Error },
    #[error(
        "fine-tuning needs {needed} bytes of feature maps for {views} pictures and views, limit \
         is {limit}; raise --map-limit, or use --augment none or --strategy feature-extraction"
    )]
    MapsOverLimit { views: usize, needed: u64, limit: u64 },
    #[error("cannot use --strategy fine-tune: {because}; use --strategy feature-extraction")]
    CannotFineTune { because: StrategyReason },
    #[error("training diverged at learning rate {learning_rate}; try a lower --learning-rate")]
    Diverged { learning_rate: f32 },
    #[error("trained parameters are not a valid linear classifier: {detail}")]
    Classifier { detail: String },
    #[error(
        "new head for {task} is worse than version {}, which is serving: of {} validation pictures \
         it alone is right on {}, version {} alone on {} (p = {:.2}, significance level \
         {SIGNIFICANCE}); nothing was published; add pictures, or publish it anyway with --force \
         --reason TEXT",
        .comparison.version, .comparison.pictures, .comparison.only_new_right, .comparison.version,
        .comparison.only_serving_right, .comparison.p_worse
    )]
    WorseThanServing { task: TaskName, comparison: Comparison },
    #[error(
        "head was trained on base {} {}, but --base is {} {}; use the base it was trained on",
        trained_on.architecture, trained_on.digest.short(), given.architecture, given.digest.short()
    )]
    OtherBase { trained_on: BaseIdentity, given: BaseIdentity },
    #[error(
        "unknown class {label:?} among the pictures, expected one of the head's: {}{}",
        .known.join(", "), written_differently(.label, .known)
    )]
    UnknownLabel { label: String, known: Vec<String> },
    #[error(
        "{data} has no pictures{}",
        .part.map(|part| format!(" for {part}")).unwrap_or_default()
    )]
    NothingToJudge { data: PathBuf, part: Option<&'static str> },
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// Says which known label looks the same as `label`, and how each is written.
fn written_differently(label: &str, known: &[String]) -> String {
    known.iter().find(|known| look_the_same(known, label)).map_or_else(String::new, |known| {
        format!("; {} and {} only look the same", spelled(label), spelled(known))
    })
}
