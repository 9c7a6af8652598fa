//! Training: from labelled pictures to a published head.
//!
//! | module | does |
//! |---|---|
//! | `run` | holds [`train`], which takes the steps below in order |
//! | [`data`] | reads the pictures, and splits them into training and validation sets and folds |
//! | [`features`] | runs the frozen base once per picture, with a cache on disk |
//! | `training_set` | holds the pictures with their features, split and ready to learn from |
//! | [`linear`] | chooses feature set and penalty by cross-validation and fits a linear head |
//! | [`deep`] | trains private layers where that beats the linear head beyond chance |
//! | `evaluate` | counts the head's answers on the validation pictures |
//! | `gate` | compares the new head with the serving one before the store publishes it |
//! | `evaluate_head` | evaluates any head on any labelled pictures, apart from a training |
//! | `context`, `options`, `progress`, `error` | what a step takes, reports and returns |
//!
//! Invariant: settings, files and the heads folder are checked before the first forward pass.

mod context;
pub mod data;
pub mod deep;
mod error;
mod evaluate;
mod evaluate_head;
pub mod features;
mod gate;
pub mod linear;
mod options;
mod progress;
mod run;
mod survey;
mod training_set;

pub use data::{Augment, DatasetError, GroupBy, Part};
pub use deep::{DeepEpoch, FineTuneOptions, Gain, Strategy, StrategyChoice, StrategyReason};
pub use error::TrainError;
pub use evaluate::{ClassEvaluation, Evaluation};
pub use evaluate_head::{EvaluateOptions, evaluate_head};
pub use gate::{Comparison, Gate, GateDecision};
pub use linear::{
    AdamFit, AdamOptions, Candidate, Choice, ClassWeight, Classifier, ConvexFit, ConvexProblem,
    Epoch, Example, Examples, Folds, ImportError, L2_UNTRIED, Score, choose, fit_by_adam,
    from_torch_linear, to_torch_linear,
};
pub use options::{Solver, TrainOptions};
pub use progress::{Event, Warning};
pub use run::{Fitted, Outcome, train};
pub use survey::LevelsChoice;

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod workshop;
