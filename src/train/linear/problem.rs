//! Softmax regression with an L2 penalty on standardised features, solved to its one minimum: no learning rate, no
//! epochs, no random numbers.

use super::{
    Classifier,
    examples::{ClassWeight, Examples},
    row_space::RowSpace,
    scaling::Scaling,
    softmax_regression::{Exactness, Point, SoftmaxRegression},
};

/// Tight, so that the single precision in which a head is kept is the larger error.
const TO_THE_END: Exactness = Exactness { gradient_share: 1e-7, iterations: 5000 };

/// Examples, standardised and in coordinates, ready to be fitted again and again.
#[derive(Debug)]
pub struct ConvexProblem {
    pub(crate) scaling: Scaling,
    /// `[rows, width]`, standardised.
    pub(crate) features: Vec<f64>,
    pub(crate) width: usize,
    space: RowSpace,
    pub(crate) row_classes: Vec<usize>,
    /// Weight of each row: its own times its class's.
    pub(crate) row_weights: Vec<f64>,
    pub(crate) classes: usize,
}

/// A fitted classifier and what it took.
#[derive(Debug, Clone, PartialEq)]
pub struct ConvexFit {
    pub classifier: Classifier,
    pub iterations: usize,
}

/// A classifier of standardised features: weights `[classes, width]`, biases `[classes]`.
#[derive(Debug)]
pub(crate) struct Standardised {
    pub(crate) weight: Vec<f64>,
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

    /// The minimum on those rows alone, as a classifier of standardised features.
    pub(crate) fn fit_rows(&self, l2: f64, wanted: impl Fn(usize) -> bool) -> Standardised {
        let regression = self.regression(wanted);
        let found = regression.solve(l2, regression.zero(), TO_THE_END);
        let (weight, bias) = found.point.split_at(self.classes * self.space.rank());
        let weight = self.space.expand(weight, self.classes, &self.features, self.width);
        Standardised { weight, bias: bias.to_vec(), iterations: found.iterations }
    }

    /// The minimum for an L2 strength above 0; see [`softmax_regression`](super::softmax_regression) for its scale.
    pub fn fit(&self, l2: f64) -> ConvexFit {
        let found = self.fit_rows(l2, |_| true);
        let (weight, bias) = self.scaling.fold(&found.weight, &found.bias);
        ConvexFit { classifier: Classifier { weight, bias }, iterations: found.iterations }
    }

    pub(crate) fn rows(&self) -> usize {
        self.row_classes.len()
    }

    /// A row's coordinates.
    pub(crate) fn at(&self, row: usize) -> &[f64] {
        let rank = self.space.rank();
        &self.space.coordinates()[row * rank..(row + 1) * rank]
    }

    /// The problem of those rows alone. Coordinates and scale stay those of all rows.
    pub(crate) fn regression(&self, wanted: impl Fn(usize) -> bool) -> SoftmaxRegression {
        let points = (0..self.rows()).filter(|row| wanted(*row)).map(|row| Point {
            at: self.at(row),
            class: self.row_classes[row],
            weight: self.row_weights[row],
        });
        SoftmaxRegression::new(&points.collect::<Vec<_>>(), self.classes, self.space.rank())
    }
}
