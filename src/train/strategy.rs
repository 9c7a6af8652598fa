//! Feature extraction, or fine-tuning: which of the two strategies of transfer learning a data set is worth.

use std::{fmt, str::FromStr};

use serde::Serialize;

use super::deep::Gain;

/// What fine-tuning needs at the least: fewer pictures are learned by heart.
const LEAST_PICTURES: usize = 150;
const LEAST_OF_A_CLASS: usize = 15;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Strategy {
    /// Feature extraction; fine-tuning where cross-validation shows that it is better.
    #[default]
    Auto,
    /// A linear head on the frozen base.
    FeatureExtraction,
    /// A head with layers of its own.
    FineTune,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no strategy: auto, feature-extraction or fine-tune is wanted")]
pub struct UnknownStrategy {
    pub text: String,
}

impl fmt::Display for Strategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::FeatureExtraction => "feature-extraction",
            Self::FineTune => "fine-tune",
        })
    }
}

impl FromStr for Strategy {
    type Err = UnknownStrategy;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Auto, Self::FeatureExtraction, Self::FineTune]
            .into_iter()
            .find(|strategy| strategy.to_string() == text)
            .ok_or_else(|| UnknownStrategy { text: text.to_owned() })
    }
}

/// Which strategy was taken, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StrategyChoice {
    /// Where the head leaves the shared trunk; `None`: a linear head.
    pub branch: Option<String>,
    pub because: Because,
    /// Fine-tuning beside feature extraction, where both were tried.
    pub gain: Option<Gain>,
    /// Multiply-adds of these layers as a share of a forward pass of the base: what a picture costs more where the batch is
    /// shared with other heads.
    pub serving_cost: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Because {
    #[error("it was asked for")]
    Asked,
    #[error("the base's own layers are not at hand or have no blocks to learn")]
    NothingToUnfreeze,
    #[error("--solver adam fits linear heads only")]
    OtherSolver,
    #[error(
        "{pictures} pictures, {fewest} of the smallest class, are too few to learn layers from: {LEAST_PICTURES} and \
         {LEAST_OF_A_CLASS} are wanted"
    )]
    TooFewPictures { pictures: usize, fewest: usize },
    #[error("the classes cannot be cross-validated")]
    NoFolds,
    #[error(
        "shared features suffice: in cross-validation they are wrong on {wrong} of {pictures} pictures, too few for a gain \
         that could be told from chance"
    )]
    FeaturesSuffice { wrong: usize, pictures: usize },
    #[error("fine-tuning showed no gain beyond chance")]
    NoGain,
    #[error("fine-tuning is better beyond chance")]
    Gain,
}

/// Whether there are enough pictures to try; else why not.
pub(super) fn enough(of_classes: &[usize]) -> Result<(), Because> {
    let pictures = of_classes.iter().sum();
    let fewest = of_classes.iter().copied().min().unwrap_or(0);
    if pictures < LEAST_PICTURES || fewest < LEAST_OF_A_CLASS {
        return Err(Because::TooFewPictures { pictures, fewest });
    }
    Ok(())
}

/// Right and wrong of both strategies on pictures that neither learned, fold after fold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Race {
    /// In all folds.
    pictures: usize,
    /// Pictures of folds to come on which the linear head is wrong.
    linear_wrong_ahead: usize,
    judged: usize,
    only_deep_right: usize,
    only_linear_right: usize,
}

impl Race {
    /// `linear_right`: of each picture.
    pub(super) fn new(linear_right: impl Iterator<Item = bool>) -> Self {
        let (mut pictures, mut wrong) = (0, 0);
        for right in linear_right {
            pictures += 1;
            wrong += usize::from(!right);
        }
        Self { pictures, linear_wrong_ahead: wrong, judged: 0, only_deep_right: 0, only_linear_right: 0 }
    }

    /// Before the first fold: whether fine-tuning could win at all.
    pub(super) fn could_be_won(&self) -> Result<(), Because> {
        if Gain::new(self.pictures, self.linear_wrong_ahead, 0).is_real() {
            return Ok(());
        }
        Err(Because::FeaturesSuffice { wrong: self.linear_wrong_ahead, pictures: self.pictures })
    }

    /// (linear, deep) for each picture of a fold.
    pub(super) fn add_fold(&mut self, right: impl Iterator<Item = (bool, bool)>) {
        for (linear, deep) in right {
            self.judged += 1;
            self.linear_wrong_ahead -= usize::from(!linear);
            self.only_deep_right += usize::from(deep && !linear);
            self.only_linear_right += usize::from(linear && !deep);
        }
    }

    /// Whether the folds to come need not be computed: fine-tuning is behind, or could not win even if it were right wherever
    /// the linear head is wrong.
    pub(super) fn is_lost(&self) -> bool {
        let best =
            Gain::new(self.pictures, self.only_deep_right + self.linear_wrong_ahead, self.only_linear_right);
        self.only_deep_right <= self.only_linear_right || !best.is_real()
    }

    /// Of the folds so far.
    pub(super) fn gain(&self) -> Gain {
        Gain::new(self.judged, self.only_deep_right, self.only_linear_right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_strategy_reads_as_it_is_written() {
        for strategy in [Strategy::Auto, Strategy::FeatureExtraction, Strategy::FineTune] {
            assert_eq!(strategy.to_string().parse(), Ok(strategy));
        }
        assert!("deep".parse::<Strategy>().is_err());
    }

    #[test]
    fn few_pictures_or_a_small_class_are_not_fine_tuned() {
        assert_eq!(enough(&[100, 100]), Ok(()));
        assert_eq!(enough(&[100, 14, 100]), Err(Because::TooFewPictures { pictures: 214, fewest: 14 }));
        assert_eq!(enough(&[60, 60]), Err(Because::TooFewPictures { pictures: 120, fewest: 60 }));
    }

    #[test]
    fn nothing_is_tried_where_the_features_are_nearly_always_right() {
        let right = |wrong: usize| Race::new((0..300).map(move |picture| picture >= wrong));
        assert_eq!(right(3).could_be_won(), Err(Because::FeaturesSuffice { wrong: 3, pictures: 300 }));
        assert_eq!(right(30).could_be_won(), Ok(()));
    }

    #[test]
    fn a_race_ends_when_it_is_lost_and_goes_on_while_it_is_open() {
        let linear = |picture: usize| !picture.is_multiple_of(10);
        let mut race = Race::new((0..300).map(linear));
        let fold = |deep: fn(usize) -> bool| (0..100).map(move |picture| (linear(picture), deep(picture)));
        let mut behind = race;
        behind.add_fold(fold(|picture| !picture.is_multiple_of(5)));
        assert!(behind.is_lost());
        race.add_fold(fold(|_| true));
        assert!(!race.is_lost());
        assert_eq!(race.gain(), Gain::new(100, 10, 0));
        race.add_fold(fold(|_| true));
        race.add_fold(fold(|picture| !picture.is_multiple_of(10)));
        assert_eq!(race.gain(), Gain::new(300, 20, 0));
        assert!(race.gain().is_real());
    }
}
