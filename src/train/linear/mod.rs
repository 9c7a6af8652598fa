//! Linear heads: softmax regression on the features of a frozen base.
//!
//! `select` chooses feature set and penalty by `cross_validation`. `problem` solves the convex
//! problem (`softmax_regression` in the coordinates of `row_space`, by `lbfgs`); `adam_fit` is the
//! alternative, by Adam. Both work on features standardised by `scaling`. `torch_linear` imports
//! and exports classifiers.

mod adam;
mod adam_fit;
pub(crate) mod cross_validation;
mod examples;
pub(crate) mod lbfgs;
pub(crate) mod problem;
mod row_space;
pub(crate) mod scaling;
mod select;
mod softmax_regression;
mod torch_linear;

pub use adam_fit::{AdamFit, AdamOptions, Epoch, fit_by_adam};
pub use cross_validation::{Folds, Score};
pub use examples::{ClassWeight, Example, Examples};
pub use problem::{ConvexFit, ConvexProblem};
pub use select::{Candidate, Choice, L2_UNTRIED, choose};
pub use torch_linear::{ImportError, from_torch_linear, to_torch_linear};

/// A linear classifier of raw features.
#[derive(Debug, Clone, PartialEq)]
pub struct Classifier {
    /// `[classes, width]`
    pub weight: Vec<f32>,
    /// `[classes]`
    pub bias: Vec<f32>,
}
