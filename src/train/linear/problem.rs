//! Softmax regression with an L2 penalty on standardised features, solved to its unique minimum.
//!
//! It has no learning rate, no epochs and no random numbers.

use super::{
    Classifier,
    examples::{ClassWeight, Examples},
    row_space::RowSpace,
    scaling::Scaling,
    softmax_regression::{Exactness, Point, SoftmaxRegression},
};

/// Tight enough that the single precision of the stored head is the larger error.
const TO_THE_END: Exactness = Exactness { gradient_share: 1e-7, iterations: 5000 };

/// Examples, standardised and in row-space coordinates, prepared for repeated fits.
#[derive(Debug)]
pub struct ConvexProblem {
    pub(crate) scaling: Scaling,
    /// `[rows, width]`, standardised.
    pub(crate) features: Vec<f64>,
    pub(crate) width: usize,
    space: RowSpace,
    pub(crate) row_classes: Vec<usize>,
    /// The row's own weight times its class's.
    pub(crate) row_weights: Vec<f64>,
    pub(crate) classes: usize,
}

/// A fitted classifier and its number of iterations.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvexFit {
    pub classifier: Classifier,
    pub iterations: usize,
}

/// A classifier of standardised features.
#[derive(Debug)]
pub(crate) struct Standardised {
    /// `[classes, width]`
    pub(crate) weight: Vec<f64>,
    /// `[classes]`
    pub(crate) bias: Vec<f64>,
    iterations: usize,
}

impl ConvexProblem {
    pub fn new(examples: &Examples, classes: usize, class_weight: ClassWeight) -> Self {
        let scaling = Scaling::of(examples);
        let features = scaling.apply(examples);
        let space = RowSpace::of(&features, examples.width);
        let of_class = examples.class_weights(classes, class_weight);
        let row_weights = examples.rows().map(|row| of_class[row.class] * f64::from(row.weight));
        Self {
            row_weights: row_weights.collect(),
            row_classes: examples.classes.clone(),
            width: examples.width,
            scaling,
            features,
            space,
            classes,
        }
    }

    /// Returns the minimum over the included rows, as a classifier of standardised features.
    pub(crate) fn fit_rows(&self, l2: f64, include: impl Fn(usize) -> bool) -> Standardised {
        let regression = self.regression(include);
        let found = regression.solve(l2, regression.zero(), TO_THE_END);
        let (weight, bias) = found.point.split_at(self.classes * self.space.rank());
        let weight = self.space.expand(weight, self.classes, &self.features, self.width);
        Standardised { weight, bias: bias.to_vec(), iterations: found.iterations }
    }

    /// Returns the minimum for an L2 strength above 0.
    ///
    /// See `softmax_regression` for the scale of `l2`.
    pub fn fit(&self, l2: f64) -> ConvexFit {
        let found = self.fit_rows(l2, |_| true);
        let (weight, bias) = self.scaling.fold(&found.weight, &found.bias);
        ConvexFit { classifier: Classifier { weight, bias }, iterations: found.iterations }
    }

    pub(crate) fn rows(&self) -> usize {
        self.row_classes.len()
    }

    /// Returns a row's coordinates, `[rank]`.
    pub(crate) fn at(&self, row: usize) -> &[f64] {
        let rank = self.space.rank();
        &self.space.coordinates()[row * rank..(row + 1) * rank]
    }

    /// Returns the problem of the included rows; coordinates and scaling stay those of all rows.
    pub(crate) fn regression(&self, include: impl Fn(usize) -> bool) -> SoftmaxRegression {
        let points = (0..self.rows()).filter(|row| include(*row)).map(|row| Point {
            at: self.at(row),
            class: self.row_classes[row],
            weight: self.row_weights[row],
        });
        SoftmaxRegression::new(&points.collect::<Vec<_>>(), self.classes, self.space.rank())
    }
}
