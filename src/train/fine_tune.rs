//! The second strategy: whether layers of the head's own are worth trying, the trial, and the fit.

use super::{
    Because, Choice, Classifier, ConvexProblem, Event, Solver, Strategy, StrategyChoice, TrainError,
    TrainOptions,
    deep::{Fitted, Plan, School},
    material::Material,
    strategy::{Race, enough},
};
use crate::{
    base::{Architecture, Base, BaseError},
    branch::BranchWeights,
};

/// L2 strength of the classifier while layers learn, where none is said: strong, because a classifier of many features that
/// alone separates the pictures leaves the layers nothing to learn. On the plates of `make bench-strategies` the strength
/// that is best for the linear head gained nothing, this one five points.
const L2_OF_FINE_TUNING: f64 = 1.0;
/// Folds in which both strategies are compared. Each costs a training of layers.
const MOST_FOLDS: usize = 3;

/// What came of the question.
#[derive(Debug)]
pub(super) struct Decision {
    pub(super) choice: StrategyChoice,
    /// `None`: a linear head.
    pub(super) layers: Option<FineTuned>,
}

/// Private layers and the classifier of their features.
#[derive(Debug)]
pub(super) struct FineTuned {
    pub(super) weights: BranchWeights,
    pub(super) classifier: Classifier,
    pub(super) l2: f64,
}

impl Decision {
    fn linear(because: Because) -> Self {
        Self {
            choice: StrategyChoice { branch: None, because, gain: None, serving_cost: None },
            layers: None,
        }
    }
}

/// Before anything is computed.
///
/// # Errors
/// [`TrainError::CannotFineTune`] if fine-tuning was asked for and cannot be done here.
pub(super) fn check(options: &TrainOptions) -> Result<(), TrainError> {
    match layers_to_learn(options)? {
        Err(because) if options.strategy == Strategy::FineTune => Err(TrainError::CannotFineTune { because }),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Takes the strategy that was asked for; with `auto`, fine-tuning only where it is better beyond chance.
///
/// # Errors
/// Whatever the training reports. That it can be done where it was asked for is for [`check`] to say.
pub(super) fn decide(
    options: &TrainOptions,
    material: &Material<'_>,
    choice: &Choice,
    problem: &ConvexProblem,
    base: &mut dyn Base,
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Decision, TrainError> {
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
    let widths = base.widths();
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
        checkpoints: material.checkpoints(options, (choice.features, l2), branch, base),
    };
    let cache = material.cache_folder(options, base);
    let school =
        School::new(plan, &material.train_views(), &options.preprocess, cache.as_deref(), base, observe)?;
    let mut gain = None;
    if let Some(trial) = trial {
        let race = trial.run(&school, observe)?;
        gain = Some(race.gain());
        if race.is_lost() || !race.gain().is_real() {
            school.forget_checkpoints();
            let choice = StrategyChoice { gain, ..Decision::linear(Because::NoGain).choice };
            return Ok(Decision { choice, layers: None });
        }
    }
    let (weights, classifier) = school.fit(None, |_| true, observe)?.trained()?;
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

/// Both strategies on the same folds.
struct Trial {
    folds: usize,
    /// Of each picture that is learned.
    fold_of: Vec<usize>,
    classes: Vec<usize>,
    linear_right: Vec<bool>,
}

impl Trial {
    /// The linear head's part, which costs nothing; or why the other is not worth trying.
    fn new(
        options: &TrainOptions,
        material: &Material<'_>,
        choice: &Choice,
        problem: &ConvexProblem,
    ) -> Result<Self, Because> {
        enough(&material.learned_of_classes())?;
        let (fold_of, folds) =
            material.folds_of_pictures(MOST_FOLDS, options.seed).ok_or(Because::NoFolds)?;
        let (classes, first_rows) = (material.learned_classes(), material.first_rows());
        let lesson_of_row = material.lesson_of_row();
        let mut linear_right = vec![false; classes.len()];
        for fold in 0..folds {
            let fitted = problem.fit_rows(choice.l2, |row| fold_of[lesson_of_row[row]] != fold);
            for lesson in (0..classes.len()).filter(|&lesson| fold_of[lesson] == fold) {
                linear_right[lesson] =
                    fitted.answer(problem.standardised(first_rows[lesson])) == classes[lesson];
            }
        }
        Race::new(linear_right.iter().copied()).could_be_won()?;
        Ok(Self { folds, fold_of, classes, linear_right })
    }

    fn run(&self, school: &School<'_>, observe: &mut dyn FnMut(Event<'_>)) -> Result<Race, TrainError> {
        let mut race = Race::new(self.linear_right.iter().copied());
        for fold in 0..self.folds {
            let fitted: Fitted<'_> =
                school.fit(Some(fold + 1), |lesson| self.fold_of[lesson] != fold, observe)?;
            let judges: Vec<usize> =
                (0..self.classes.len()).filter(|&lesson| self.fold_of[lesson] == fold).collect();
            let answers = school.answers(&fitted, &judges)?;
            let pairs = judges.iter().zip(answers);
            race.add_fold(
                pairs.map(|(&lesson, answer)| (self.linear_right[lesson], answer == self.classes[lesson])),
            );
            if race.is_lost() {
                break;
            }
        }
        Ok(race)
    }
}

#[cfg(test)]
mod tests;
