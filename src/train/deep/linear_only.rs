//! Without libtorch no layers can learn: every head is linear.

use super::{Because, Decision, Strategy};
use crate::train::{
    context::TrainContext,
    error::TrainError,
    linear::{Choice, ConvexProblem},
    options::TrainOptions,
    training_set::Material,
};

/// Fails before anything is computed if fine-tuning was asked for.
pub(crate) fn check(options: &TrainOptions) -> Result<(), TrainError> {
    match options.strategy {
        Strategy::FineTune => Err(TrainError::CannotFineTune { because: Because::BuiltWithoutLibtorch }),
        Strategy::Auto | Strategy::FeatureExtraction => Ok(()),
    }
}

/// Takes feature extraction.
pub(crate) fn decide(
    context: &mut TrainContext<'_>,
    _material: &Material<'_>,
    _choice: &Choice,
    _problem: &ConvexProblem,
) -> Result<Decision, TrainError> {
    Ok(Decision::linear(match context.options.strategy {
        Strategy::FeatureExtraction => Because::Asked,
        Strategy::Auto | Strategy::FineTune => Because::BuiltWithoutLibtorch,
    }))
}
