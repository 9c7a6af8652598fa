//! Training: pictures to a published head.
//!
//! [`train`] goes through it in order: [`data`] finds the pictures and keeps some back, [`features`] runs the frozen base once
//! a picture or finds the result in its cache, [`linear`] picks feature set and penalty by cross-validation and fits a linear
//! head, [`deep`] tries whether layers of the head's own are worth it, `evaluate` counts on the pictures kept back, the
//! `gate` compares with the head that serves, and the store publishes. What can be refused is refused before the first
//! forward pass.

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

#[cfg(test)]
mod tests;
