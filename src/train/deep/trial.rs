//! Cross-validation of both strategies on the same folds, stopped once the outcome is certain.

use super::{
    Gain, StrategyReason,
    strategy::{LEAST_OF_A_CLASS, LEAST_PICTURES},
    tuner::{FineTuner, Fitted},
};
use crate::train::{
    error::TrainError,
    linear::{Choice, ConvexProblem, lbfgs::dot, problem::Standardised},
    options::TrainOptions,
    progress::Event,
    training_set::TrainingSet,
};

/// Maximum number of folds; each costs a training of the private layers.
const MAX_FOLDS: usize = 3;

/// Checks that there are enough pictures, in total and of each class.
fn enough(per_class: &[usize]) -> Result<(), StrategyReason> {
    let pictures = per_class.iter().sum();
    let fewest = per_class.iter().copied().min().unwrap_or(0);
    if pictures < LEAST_PICTURES || fewest < LEAST_OF_A_CLASS {
        return Err(StrategyReason::TooFewPictures { pictures, fewest });
    }
    Ok(())
}

/// A trial of both strategies on the same folds; vectors have one entry per training picture.
pub(crate) struct Trial {
    folds: usize,
    fold_of: Vec<usize>,
    classes: Vec<usize>,
    /// Whether the linear head classifies the picture correctly when its fold is held out.
    linear_right: Vec<bool>,
}

impl Trial {
    /// Cross-validates the linear head, which is cheap; fails if fine-tuning is not worth a trial.
    pub(crate) fn new(
        options: &TrainOptions,
        training_set: &TrainingSet<'_>,
        choice: &Choice,
        problem: &ConvexProblem,
    ) -> Result<Self, StrategyReason> {
        enough(&training_set.train_class_counts())?;
        let (fold_of, folds) = training_set
            .folds_of_pictures(MAX_FOLDS, options.seed)
            .ok_or(StrategyReason::NoFolds)?;
        let (classes, first_rows) = (training_set.train_classes(), training_set.first_rows());
        let example_of_row = training_set.example_of_row();
        let mut linear_right = vec![false; classes.len()];
        for fold in 0..folds {
            let fitted = problem.fit_rows(choice.l2, |row| fold_of[example_of_row[row]] != fold);
            for example in (0..classes.len()).filter(|&example| fold_of[example] == fold) {
                linear_right[example] =
                    answer(&fitted, row_of(problem, first_rows[example])) == classes[example];
            }
        }
        PairedTrial::new(linear_right.iter().copied()).could_be_won()?;
        Ok(Self { folds, fold_of, classes, linear_right })
    }

    /// Fine-tunes fold by fold and compares, until the trial is complete or lost.
    pub(crate) fn run(
        &self,
        tuner: &FineTuner<'_>,
        observer: &mut dyn FnMut(Event<'_>),
    ) -> Result<PairedTrial, TrainError> {
        let mut trial = PairedTrial::new(self.linear_right.iter().copied());
        for fold in 0..self.folds {
            let fitted: Fitted<'_> =
                tuner.fit(Some(fold + 1), |example| self.fold_of[example] != fold, observer)?;
            let held_out: Vec<usize> =
                (0..self.classes.len()).filter(|&example| self.fold_of[example] == fold).collect();
            let answers = tuner.answers(&fitted, &held_out)?;
            let pairs = held_out.iter().zip(answers);
            trial.add_fold(pairs.map(|(&example, answer)| {
                (self.linear_right[example], answer == self.classes[example])
            }));
            if trial.is_lost() {
                break;
            }
        }
        Ok(trial)
    }
}

/// Paired counts of both strategies' right answers on held-out pictures, fold by fold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PairedTrial {
    /// In all folds.
    pictures: usize,
    /// Pictures in the remaining folds on which the linear head is wrong.
    linear_wrong_ahead: usize,
    /// In the folds so far.
    compared: usize,
    only_deep_right: usize,
    only_linear_right: usize,
}

impl PairedTrial {
    /// Starts before the first fold, with the linear head's result for each picture.
    pub(crate) fn new(linear_right: impl Iterator<Item = bool>) -> Self {
        let (mut pictures, mut wrong) = (0, 0);
        for right in linear_right {
            pictures += 1;
            wrong += usize::from(!right);
        }
        Self {
            pictures,
            linear_wrong_ahead: wrong,
            compared: 0,
            only_deep_right: 0,
            only_linear_right: 0,
        }
    }

    /// Checks, before the first fold, that fine-tuning could win at all.
    pub(crate) fn could_be_won(&self) -> Result<(), StrategyReason> {
        if Gain::new(self.pictures, self.linear_wrong_ahead, 0).is_real() {
            return Ok(());
        }
        Err(StrategyReason::FeaturesSuffice {
            wrong: self.linear_wrong_ahead,
            pictures: self.pictures,
        })
    }

    /// Adds a fold: for each picture whether (linear, deep) are right.
    pub(crate) fn add_fold(&mut self, right: impl Iterator<Item = (bool, bool)>) {
        for (linear, deep) in right {
            self.compared += 1;
            self.linear_wrong_ahead -= usize::from(!linear);
            self.only_deep_right += usize::from(deep && !linear);
            self.only_linear_right += usize::from(linear && !deep);
        }
    }

    /// Returns whether the remaining folds need not run.
    ///
    /// Fine-tuning is not ahead, or could not win even if it were right wherever the linear head is
    /// wrong.
    pub(crate) fn is_lost(&self) -> bool {
        let best = Gain::new(
            self.pictures,
            self.only_deep_right + self.linear_wrong_ahead,
            self.only_linear_right,
        );
        self.only_deep_right <= self.only_linear_right || !best.is_real()
    }

    /// Returns the gain over the folds so far.
    pub(crate) fn gain(&self) -> Gain {
        Gain::new(self.compared, self.only_deep_right, self.only_linear_right)
    }
}

/// Returns the standardised features of a row.
fn row_of(problem: &ConvexProblem, row: usize) -> &[f64] {
    &problem.features[row * problem.width..(row + 1) * problem.width]
}

/// Returns the class with the largest logit; the first one on a tie.
fn answer(classifier: &Standardised, features: &[f64]) -> usize {
    let rows = classifier.weight.chunks_exact(features.len().max(1)).zip(&classifier.bias);
    let logits = rows.map(|(row, bias)| dot(row, features) + bias);
    let first_largest = |best: (usize, f64), (class, logit): (usize, f64)| {
        if logit > best.1 { (class, logit) } else { best }
    };
    logits.enumerate().fold((0, f64::NEG_INFINITY), first_largest).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trial_cannot_be_won_if_the_linear_head_is_nearly_always_right() {
        let right = |wrong: usize| PairedTrial::new((0..300).map(move |picture| picture >= wrong));
        assert_eq!(
            right(3).could_be_won(),
            Err(StrategyReason::FeaturesSuffice { wrong: 3, pictures: 300 })
        );
        assert_eq!(right(30).could_be_won(), Ok(()));
    }

    #[test]
    fn trial_is_lost_once_behind_and_open_before() {
        let linear = |picture: usize| !picture.is_multiple_of(10);
        let mut trial = PairedTrial::new((0..300).map(linear));
        let fold =
            |deep: fn(usize) -> bool| (0..100).map(move |picture| (linear(picture), deep(picture)));
        let mut behind = trial;
        behind.add_fold(fold(|picture| !picture.is_multiple_of(5)));
        assert!(behind.is_lost());
        trial.add_fold(fold(|_| true));
        assert!(!trial.is_lost());
        assert_eq!(trial.gain(), Gain::new(100, 10, 0));
        trial.add_fold(fold(|_| true));
        trial.add_fold(fold(|picture| !picture.is_multiple_of(10)));
        assert_eq!(trial.gain(), Gain::new(300, 20, 0));
        assert!(trial.gain().is_real());
    }

    #[test]
    fn too_few_pictures_or_a_small_class_are_not_enough() {
        assert_eq!(enough(&[100, 100]), Ok(()));
        assert_eq!(
            enough(&[100, 14, 100]),
            Err(StrategyReason::TooFewPictures { pictures: 214, fewest: 14 })
        );
        assert_eq!(
            enough(&[60, 60]),
            Err(StrategyReason::TooFewPictures { pictures: 120, fewest: 60 })
        );
    }
}
