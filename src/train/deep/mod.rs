//! Fine-tuning: the last layers of the network become the head's own and learn with it, from the base's weights and at a
//! very small step size, while the trunk below them stays frozen and shared.
//!
//! The linear classifier is fitted first, then everything learns (LP-FT, Kumar et al. 2022), so that the first gradients do
//! not distort features that were good. The trunk's maps are computed once (`feature_maps`); an epoch costs the private
//! layers. `trial` finds out whether that is worth it.

mod gain;
mod strategy;

#[cfg(feature = "torch")]
mod checkpoint;
#[cfg(feature = "torch")]
mod decide;
#[cfg(feature = "torch")]
mod feature_maps;
#[cfg(feature = "torch")]
mod trial;
#[cfg(feature = "torch")]
mod tune_examples;
#[cfg(feature = "torch")]
mod tuner;

#[cfg(not(feature = "torch"))]
mod linear_only;

pub use gain::Gain;
pub use strategy::{Strategy, StrategyChoice, StrategyReason};

#[cfg(feature = "torch")]
pub(crate) use decide::{check, decide};
#[cfg(not(feature = "torch"))]
pub(crate) use linear_only::{check, decide};

use serde::Serialize;

use crate::{base::BranchWeights, train::linear::Classifier};

/// How private layers learn.
#[derive(Debug, Clone, PartialEq)]
pub struct FineTuneOptions {
    pub epochs: usize,
    pub batch_size: usize,
    /// Adam's step size for the convolutions at the start of the cosine.
    pub rate: f64,
    /// Most bytes of trunk maps in the cache.
    pub map_limit: u64,
}

impl Default for FineTuneOptions {
    fn default() -> Self {
        Self { epochs: 10, batch_size: 16, rate: 3e-4, map_limit: 8 << 30 }
    }
}

/// What an epoch of fine-tuning came to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DeepEpoch {
    /// From 1; `None`: the pictures of all folds are learned.
    pub fold: Option<usize>,
    /// From 1.
    pub epoch: usize,
    pub most_epochs: usize,
    /// Mean cross-entropy in nats, weighted by class.
    pub train_loss: f64,
}

/// What came of the question.
#[derive(Debug)]
pub(crate) struct StrategyOutcome {
    pub(crate) choice: StrategyChoice,
    /// `None`: a linear head.
    pub(crate) layers: Option<FineTuned>,
}

/// Private layers and the classifier of their features.
#[derive(Debug)]
pub(crate) struct FineTuned {
    pub(crate) weights: BranchWeights,
    pub(crate) classifier: Classifier,
    pub(crate) l2: f64,
}

impl StrategyOutcome {
    fn linear(because: StrategyReason) -> Self {
        Self {
            choice: StrategyChoice { branch: None, because, gain: None, serving_cost: None },
            layers: None,
        }
    }
}

#[cfg(feature = "torch")]
#[cfg(test)]
mod tests;
