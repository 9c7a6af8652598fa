//! The strategies of a build without libtorch: no layers can be trained, so every head is linear.

use super::{Strategy, StrategyOutcome, StrategyReason};
use crate::train::{
    context::TrainContext,
    error::TrainError,
    linear::{Choice, ConvexProblem},
    options::TrainOptions,
    training_set::TrainingSet,
};

/// Fails before anything is computed if fine-tuning was asked for.
pub(crate) fn check(options: &TrainOptions) -> Result<(), TrainError> {
    match options.strategy {
        Strategy::FineTune => {
            Err(TrainError::CannotFineTune { because: StrategyReason::BuiltWithoutLibtorch })
        }
        Strategy::Auto | Strategy::FeatureExtraction => Ok(()),
    }
}

/// Chooses feature extraction.
pub(crate) fn decide(
    context: &mut TrainContext<'_>,
    _training_set: &TrainingSet<'_>,
    _choice: &Choice,
    _problem: &ConvexProblem,
) -> Result<StrategyOutcome, TrainError> {
    Ok(StrategyOutcome::linear(match context.options.strategy {
        Strategy::FeatureExtraction => StrategyReason::Asked,
        Strategy::Auto | Strategy::FineTune => StrategyReason::BuiltWithoutLibtorch,
    }))
}
