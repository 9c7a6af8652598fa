//! What to train, from what, and how.

use std::{collections::BTreeMap, path::PathBuf, str::FromStr, sync::Arc};

use super::{
    data::{Augment, GroupBy},
    deep::{FineTuneOptions, Strategy},
    linear::{AdamOptions, ClassWeight},
};
use crate::{
    base::{BaseWeights, BranchPoint, FeatureSet},
    error::ParseNameError,
    ids::TaskName,
    image::Preprocess,
};

/// What to train, from what, and how.
#[derive(Debug, Clone)]
pub struct TrainOptions {
    /// Folder of pictures, or a CSV or JSONL file that lists them.
    pub data: PathBuf,
    pub group_by: GroupBy,
    pub task: TaskName,
    /// Folder of heads; made if it is missing.
    pub heads: PathBuf,
    pub strategy: Strategy,
    /// From where layers learn; `None`: all of the last layer.
    pub unfreeze: Option<BranchPoint>,
    /// The base's weights, from which layers start to learn; without them every head is linear.
    pub layers: Option<Arc<BaseWeights>>,
    pub fine_tune: FineTuneOptions,
    /// `None`: whichever cross-validation finds better.
    pub features: Option<FeatureSet>,
    pub preprocess: Preprocess,
    pub augment: Augment,
    /// Classes that may pass; if empty, those named ok or good.
    pub good: Vec<String>,
    /// Probability that the winning class has to reach, 0 to 1.
    pub threshold: f32,
    /// Share of the pictures that is kept back, 0 to 1, where the data does not say.
    pub validation_share: f64,
    /// Of the split, the folds and the order of training.
    pub seed: u64,
    pub solver: Solver,
    /// L2 strength, above 0; `None`: what cross-validation finds best.
    pub l2: Option<f64>,
    pub class_weight: ClassWeight,
    pub adam: AdamOptions,
    /// Publish a head that is worse than the one that serves, for this reason.
    pub force_because: Option<String>,
    /// Folder of the feature cache; without one nothing is kept.
    pub cache: Option<PathBuf>,
    /// RFC 3339, in UTC.
    pub created_at: String,
    /// Where the base's weights came from, for the record.
    pub base_origin: Option<String>,
    /// The settings in force, for the record.
    pub command: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Solver {
    /// The convex problem, to its one minimum.
    #[default]
    Lbfgs,
    /// Steps on batches of pictures, stopped early; without a penalty.
    Adam,
}

impl FromStr for Solver {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "lbfgs" => Ok(Self::Lbfgs),
            "adam" => Ok(Self::Adam),
            _ => Err(ParseNameError::new("solver", text, &["lbfgs", "adam"])),
        }
    }
}
