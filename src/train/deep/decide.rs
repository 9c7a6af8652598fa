//! The choice between a linear head and private layers, which it trains.

use super::{
    FineTuned, Strategy, StrategyChoice, StrategyOutcome, StrategyReason,
    trial::Trial,
    tuner::{FineTuner, Plan},
};
use crate::{
    base::{Architecture, BaseError, BranchWeights},
    train::{
        context::TrainContext,
        error::TrainError,
        linear::{Choice, ConvexProblem},
        options::{Solver, TrainOptions},
        training_set::TrainingSet,
    },
};

/// Default L2 strength of the classifier while private layers are trained.
///
/// Strong, because a classifier that separates the pictures by itself leaves the layers nothing to
/// learn. On the plates of `make bench-strategies`, fine-tuning with the strength that is best for
/// the linear head gained nothing, with this one five points.
const L2_OF_FINE_TUNING: f64 = 1.0;

/// Checks, before anything is computed, that the strategy asked for is possible.
///
/// # Errors
/// [`TrainError::CannotFineTune`] if fine-tuning was asked for but is not possible.
pub(crate) fn check(options: &TrainOptions) -> Result<(), TrainError> {
    match trainable_layers(options)? {
        Err(because) if options.strategy == Strategy::FineTune => {
            Err(TrainError::CannotFineTune { because })
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Applies the strategy asked for; `auto` fine-tunes only where that is better beyond chance.
///
/// # Errors
/// Fails if the training fails. Whether fine-tuning is possible must be [checked](check) before.
pub(crate) fn decide(
    context: &mut TrainContext<'_>,
    training_set: &TrainingSet<'_>,
    choice: &Choice,
    problem: &ConvexProblem,
) -> Result<StrategyOutcome, TrainError> {
    let options = context.options;
    let is_asked = options.strategy == Strategy::FineTune;
    if options.strategy == Strategy::FeatureExtraction {
        return Ok(StrategyOutcome::linear(StrategyReason::Asked));
    }
    let (architecture, start) = match trainable_layers(options)? {
        Ok(layers) => layers,
        Err(because) => return Ok(StrategyOutcome::linear(because)),
    };
    let mut trial = None;
    if !is_asked {
        match Trial::new(options, training_set, choice, problem) {
            Ok(open) => trial = Some(open),
            Err(because) => return Ok(StrategyOutcome::linear(because)),
        }
    }
    let branch = start.branch;
    let l2 = options.l2.unwrap_or(L2_OF_FINE_TUNING);
    let widths = context.base.widths();
    let (examples, example_of_row) = training_set.tune_examples(choice.features, problem, widths);
    let plan = Plan {
        options: &options.fine_tune,
        architecture,
        start,
        set: choice.features,
        l2,
        seed: options.seed,
        problem,
        examples,
        example_of_row,
        checkpoints: training_set.checkpoints(options, (choice.features, l2), branch, context.base),
    };
    let cache = training_set.cache_folder(options, context.base);
    let tuner = FineTuner::new(context, plan, &training_set.train_views(), cache.as_deref())?;
    let mut gain = None;
    if let Some(trial) = trial {
        let trial = trial.run(&tuner, context.observer)?;
        gain = Some(trial.gain());
        if trial.is_lost() || !trial.gain().is_real() {
            tuner.forget_checkpoints();
            let choice =
                StrategyChoice { gain, ..StrategyOutcome::linear(StrategyReason::NoGain).choice };
            return Ok(StrategyOutcome { choice, layers: None });
        }
    }
    let (weights, classifier) = tuner.fit(None, |_| true, context.observer)?.trained()?;
    let choice = StrategyChoice {
        branch: Some(branch.to_string()),
        because: if is_asked { StrategyReason::Asked } else { StrategyReason::Gain },
        gain,
        serving_cost: Some(architecture.branch_share(branch).map_err(BaseError::from)?),
    };
    tuner.forget_checkpoints();
    Ok(StrategyOutcome { choice, layers: Some(FineTuned { weights, classifier, l2 }) })
}

/// Returns the base's layers from the branch point on, or why none can be trained.
fn trainable_layers(
    options: &TrainOptions,
) -> Result<Result<(Architecture, BranchWeights), StrategyReason>, TrainError> {
    if options.solver == Solver::Adam {
        return Ok(Err(StrategyReason::OtherSolver));
    }
    let Some(weights) = &options.layers else { return Ok(Err(StrategyReason::NothingToUnfreeze)) };
    let architecture = weights.architecture();
    let all = architecture.branches().first().copied();
    let Some(branch) = all.map(|all| options.unfreeze.unwrap_or(all)) else {
        return Ok(Err(StrategyReason::NothingToUnfreeze));
    };
    Ok(Ok((architecture, weights.branch(branch).map_err(BaseError::from)?)))
}
