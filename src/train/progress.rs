//! What happens while a head is trained, for whoever watches.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{
    deep::{DeepEpoch, StrategyChoice},
    evaluate::Evaluation,
    gate::Gate,
    linear::{Choice, Epoch},
};
use crate::ids::{Digest, Version};

/// What happens meanwhile, in this order: dataset, good, features, choice, epoch, maps, deep epoch, strategy, evaluated, gate,
/// published; warnings at any time. Features come again for augmented views, epochs only with Adam, maps and deep epochs only
/// where layers learn.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    Dataset {
        classes: &'a [String],
        pictures: usize,
    },
    Good {
        classes: &'a [String],
        /// Nobody named them: they are called ok or good.
        by_name: bool,
    },
    Features {
        done: usize,
        total: usize,
        /// Of those done, how many needed no forward pass.
        cached: usize,
    },
    Choice(&'a Choice),
    Epoch(&'a Epoch),
    /// Of the trunk, for fine-tuning.
    Maps {
        done: usize,
        total: usize,
        /// Of those done, how many needed no forward pass.
        cached: usize,
    },
    DeepEpoch(&'a DeepEpoch),
    Strategy(&'a StrategyChoice),
    Evaluated(&'a Evaluation),
    Gate(&'a Gate),
    Published {
        version: Version,
        digest: Digest,
        path: &'a Path,
        accuracy: f64,
    },
    Warning(Warning),
}

/// Something that does not stop the training and that a person should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Warning {
    #[error("{path} was left out: {reason}")]
    Unreadable { path: PathBuf, reason: String },
    #[error("{path} was left out: {reason}")]
    NoPicture { path: PathBuf, reason: String },
    #[error("{path} was left out: it is the same picture as {first}")]
    Repeated { path: PathBuf, first: PathBuf },
    #[error("{path} was left out: it lies outside the class folders")]
    OutsideClasses { path: PathBuf },
    #[error("{path} was left out: folders inside a class folder are not looked into")]
    NestedFolder { path: PathBuf },
    #[error(
        "{pictures} pictures for test were left alone; `fine-tune evaluate` judges a head on them"
    )]
    LeftForTest { pictures: usize },
    #[error(
        "features are not kept, the next run computes them again: cannot write into {path}: {reason}"
    )]
    CacheNotWritten { path: PathBuf, reason: String },
    #[error("a stopped training cannot go on where it was: cannot write into {path}: {reason}")]
    NoCheckpoint { path: PathBuf, reason: String },
    #[error("no class is good, so nothing will ever pass; name one with --good, known are {}", .known.join(", "))]
    NothingPasses { known: Vec<String> },
}
