//! Feature extraction, or fine-tuning: which of the two strategies of transfer learning a data set
//! is worth.

use std::{fmt, str::FromStr};

use serde::Serialize;

use super::Gain;
use crate::error::ParseNameError;

/// What fine-tuning needs at the least: fewer pictures are learned by heart.
pub(crate) const LEAST_PICTURES: usize = 150;
pub(crate) const LEAST_OF_A_CLASS: usize = 15;

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
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Auto, Self::FeatureExtraction, Self::FineTune]
            .into_iter()
            .find(|strategy| strategy.to_string() == text)
            .ok_or_else(|| {
                ParseNameError::new("strategy", text, &["auto", "feature-extraction", "fine-tune"])
            })
    }
}

/// Which strategy was taken, and why.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StrategyChoice {
    /// Where the head leaves the shared trunk; `None`: a linear head.
    pub branch: Option<String>,
    pub because: StrategyReason,
    /// Fine-tuning beside feature extraction, where both were tried.
    pub gain: Option<Gain>,
    /// Multiply-adds of these layers as a share of a forward pass of the base: what a picture costs
    /// more where the batch is shared with other heads.
    pub serving_cost: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum StrategyReason {
    #[error("it was asked for")]
    Asked,
    #[error("{}", crate::base::BuiltWithoutLibtorch)]
    BuiltWithoutLibtorch,
    #[error(
        "there are no layers to train: the base's weights are not here (--server gives features \
         only, pass --base), or its network has no residual blocks"
    )]
    NothingToUnfreeze,
    #[error("--solver adam fits linear heads only")]
    OtherSolver,
    #[error(
        "{pictures} pictures, {fewest} of the smallest class, are too few to train layers, \
         expected at least {LEAST_PICTURES} and {LEAST_OF_A_CLASS}"
    )]
    TooFewPictures { pictures: usize, fewest: usize },
    #[error("the classes cannot be cross-validated")]
    NoFolds,
    #[error(
        "shared features suffice: in cross-validation they are wrong on {wrong} of {pictures} \
         pictures, too few for a gain that could be told from chance"
    )]
    FeaturesSuffice { wrong: usize, pictures: usize },
    #[error("fine-tuning showed no gain beyond chance")]
    NoGain,
    #[error("fine-tuning is better beyond chance")]
    Gain,
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
}
