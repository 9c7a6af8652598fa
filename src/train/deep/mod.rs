//! Fine-tuning: the last layers of the network become private to the head and are trained with it.
//!
//! They start from the base's weights, at a very small step size; the trunk below stays frozen and
//! shared. The linear classifier is fitted first, then everything (LP-FT, Kumar et al. 2022), so
//! that the first gradients do not distort good features. The trunk's feature maps are computed
//! once (`feature_maps`), so an epoch costs only the private layers. `trial` tests whether that is
//! worth it.

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

/// How private layers are trained.
#[derive(Debug, Clone, PartialEq)]
pub struct FineTuneOptions {
    pub epochs: usize,
    pub batch_size: usize,
    /// Adam's step size for the convolutions at the start of the cosine schedule.
    pub rate: f64,
    /// Maximum bytes of trunk feature maps in the cache.
    pub map_limit: u64,
}

impl Default for FineTuneOptions {
    fn default() -> Self {
        Self { epochs: 10, batch_size: 16, rate: 3e-4, map_limit: 8 << 30 }
    }
}

/// The result of an epoch of fine-tuning.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DeepEpoch {
    /// The held-out fold, from 1; `None` when training on all folds.
    pub fold: Option<usize>,
    /// From 1.
    pub epoch: usize,
    pub most_epochs: usize,
    /// Mean cross-entropy in nats, weighted by class.
    pub train_loss: f64,
}

/// The strategy chosen, and the trained layers if it is fine-tuning.
#[derive(Debug)]
pub(crate) struct StrategyOutcome {
    pub(crate) choice: StrategyChoice,
    /// `None` for a linear head.
    pub(crate) layers: Option<FineTuned>,
}

/// Trained private layers and the classifier of their features.
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
