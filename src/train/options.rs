//! The settings of a training.

use std::{collections::BTreeMap, path::PathBuf, str::FromStr, sync::Arc};

use super::{
    data::{Augment, GroupBy},
    deep::{FineTuneOptions, Strategy},
    linear::{AdamOptions, ClassWeight},
    survey::LevelsChoice,
};
use crate::{
    base::{BaseWeights, BranchPoint, FeatureSet},
    error::ParseNameError,
    ids::TaskName,
    image::Preprocess,
};

/// The settings of a training.
#[derive(Debug, Clone)]
pub struct TrainOptions {
    /// Folder of pictures, or a CSV or JSONL file that lists them.
    pub data: PathBuf,
    pub group_by: GroupBy,
    pub task: TaskName,
    /// Folder of heads; created if missing.
    pub heads: PathBuf,
    pub strategy: Strategy,
    /// First block that is trained; `None` means all of the last layer.
    pub unfreeze: Option<BranchPoint>,
    /// The base's weights, from which private layers start; without them every head is linear.
    pub layers: Option<Arc<BaseWeights>>,
    pub fine_tune: FineTuneOptions,
    /// `None` means that cross-validation chooses.
    pub features: Option<FeatureSet>,
    /// Without levels, which `levels` chooses.
    pub preprocess: Preprocess,
    pub levels: LevelsChoice,
    pub augment: Augment,
    /// Classes that may pass; if empty, those named ok or good.
    pub good: Vec<String>,
    /// Probability that the winning class has to reach, 0 to 1.
    pub threshold: f32,
    /// Share of the pictures for validation, 0 to 1, if the data set does not define the split.
    pub validation_share: f64,
    /// Seed of the split, the folds and the order of training.
    pub seed: u64,
    pub solver: Solver,
    /// L2 strength, above 0; `None` means that cross-validation chooses.
    pub l2: Option<f64>,
    pub class_weight: ClassWeight,
    pub adam: AdamOptions,
    /// Why the head is published even if it is worse than the serving one.
    pub force_because: Option<String>,
    /// Folder of the feature cache, if features are kept.
    pub cache: Option<PathBuf>,
    /// RFC 3339, in UTC.
    pub created_at: String,
    /// Where the base's weights came from, for the head's provenance.
    pub base_origin: Option<String>,
    /// The settings in force, for the head's provenance.
    pub command: BTreeMap<String, String>,
}

/// How a linear head is fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Solver {
    /// L-BFGS, to the unique minimum of the convex problem.
    #[default]
    Lbfgs,
    /// Adam on mini-batches with early stopping, without a penalty.
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
