//! Decides whether a head gets layers of its own, and trains them.

use super::{
    Because, Decision, FineTuned, Strategy, StrategyChoice,
    trial::Trial,
    tuner::{Plan, School},
};
use crate::{
    base::{Architecture, BaseError, BranchWeights},
    train::{
        context::TrainContext,
        error::TrainError,
        linear::{Choice, ConvexProblem},
        options::{Solver, TrainOptions},
        training_set::Material,
    },
};

/// L2 strength of the classifier while layers learn, where none is said: strong, because a classifier of many features that
/// alone separates the pictures leaves the layers nothing to learn. On the plates of `make bench-strategies` the strength
/// that is best for the linear head gained nothing, this one five points.
const L2_OF_FINE_TUNING: f64 = 1.0;
/// Before anything is computed.
///
/// # Errors
/// [`TrainError::CannotFineTune`] if fine-tuning was asked for and cannot be done here.
pub(crate) fn check(options: &TrainOptions) -> Result<(), TrainError> {
    match layers_to_learn(options)? {
        Err(because) if options.strategy == Strategy::FineTune => Err(TrainError::CannotFineTune { because }),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Takes the strategy that was asked for; with `auto`, fine-tuning only where it is better beyond chance.
///
/// # Errors
/// Whatever the training reports. That it can be done where it was asked for is for [`check`] to say.
pub(crate) fn decide(
    context: &mut TrainContext<'_>,
    material: &Material<'_>,
    choice: &Choice,
    problem: &ConvexProblem,
) -> Result<Decision, TrainError> {
    let options = context.options;
    let is_asked = options.strategy == Strategy::FineTune;
    if options.strategy == Strategy::FeatureExtraction {
        return Ok(Decision::linear(Because::Asked));
    }
    let (architecture, start) = match layers_to_learn(options)? {
        Ok(layers) => layers,
        Err(because) => return Ok(Decision::linear(because)),
    };
    let mut trial = None;
    if !is_asked {
        match Trial::new(options, material, choice, problem) {
            Ok(worth_it) => trial = Some(worth_it),
            Err(because) => return Ok(Decision::linear(because)),
        }
    }
    let branch = start.branch;
    let l2 = options.l2.unwrap_or(L2_OF_FINE_TUNING);
    let widths = context.base.widths();
    let (lessons, lesson_of_row) = material.lessons(choice.features, problem, widths);
    let plan = Plan {
        options: &options.fine_tune,
        architecture,
        start,
        set: choice.features,
        l2,
        seed: options.seed,
        problem,
        lessons,
        lesson_of_row,
        checkpoints: material.checkpoints(options, (choice.features, l2), branch, context.base),
    };
    let cache = material.cache_folder(options, context.base);
    let school = School::new(context, plan, &material.train_views(), cache.as_deref())?;
    let mut gain = None;
    if let Some(trial) = trial {
        let race = trial.run(&school, context.observer)?;
        gain = Some(race.gain());
        if race.is_lost() || !race.gain().is_real() {
            school.forget_checkpoints();
            let choice = StrategyChoice { gain, ..Decision::linear(Because::NoGain).choice };
            return Ok(Decision { choice, layers: None });
        }
    }
    let (weights, classifier) = school.fit(None, |_| true, context.observer)?.trained()?;
    let choice = StrategyChoice {
        branch: Some(branch.to_string()),
        because: if is_asked { Because::Asked } else { Because::Gain },
        gain,
        serving_cost: Some(architecture.branch_share(branch).map_err(BaseError::from)?),
    };
    school.forget_checkpoints();
    Ok(Decision { choice, layers: Some(FineTuned { weights, classifier, l2 }) })
}

/// The base's own layers from the branch on, or why there are none.
fn layers_to_learn(
    options: &TrainOptions,
) -> Result<Result<(Architecture, BranchWeights), Because>, TrainError> {
    if options.solver == Solver::Adam {
        return Ok(Err(Because::OtherSolver));
    }
    let Some(weights) = &options.layers else { return Ok(Err(Because::NothingToUnfreeze)) };
    let architecture = weights.architecture();
    let all = architecture.branches().first().copied();
    let Some(branch) = all.map(|all| options.unfreeze.unwrap_or(all)) else {
        return Ok(Err(Because::NothingToUnfreeze));
    };
    Ok(Ok((architecture, weights.branch(branch).map_err(BaseError::from)?)))
}
