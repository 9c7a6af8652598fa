//! The convex problem: softmax regression with an L2 penalty on the weights, not on the biases.
//!
//! `J(W, b) = 1/Ω Σ ω_i cross_entropy(softmax(W x_i + b), y_i) + λ/2 ‖W‖²` with `Ω = Σ ω_i`,
//! which is scikit-learn's `LogisticRegression` with `C = 1 / (λ Ω)`.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, linalg::general_mat_mul};

use super::lbfgs::{Minimum, Stop, dot, minimise};

/// A row in coordinates.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Point<'a> {
    /// `[width]`
    pub(crate) at: &'a [f64],
    pub(crate) class: usize,
    pub(crate) weight: f64,
}

/// Weights `[classes, width]`, then biases `[classes]`, in one row.
pub(crate) type Parameters = Vec<f64>;

/// How exactly the problem is solved.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exactness {
    /// Norm of the gradient to reach, as a share of its norm at zero.
    pub(crate) gradient_share: f64,
    pub(crate) iterations: usize,
}

#[derive(Debug)]
pub(crate) struct SoftmaxRegression {
    /// `[points, width]`
    at: Array2<f64>,
    point_classes: Vec<usize>,
    /// `[points]`: each weight divided by their sum.
    shares: Vec<f64>,
    classes: usize,
    width: usize,
    gradient_norm_at_zero: f64,
}

impl SoftmaxRegression {
    pub(crate) fn new(points: &[Point<'_>], classes: usize, width: usize) -> Self {
        let total_weight: f64 = points.iter().map(|point| point.weight).sum();
        let mut at = Array2::zeros((points.len(), width));
        for (mut row, point) in at.rows_mut().into_iter().zip(points) {
            row.iter_mut().zip(point.at).for_each(|(value, at)| *value = *at);
        }
        let point_classes = points.iter().map(|point| point.class).collect();
        let shares = points.iter().map(|point| point.weight / total_weight).collect();
        let mut problem =
            Self { at, point_classes, shares, classes, width, gradient_norm_at_zero: 0.0 };
        let mut gradient = problem.zero();
        problem.loss(&problem.zero(), 0.0, &mut gradient);
        problem.gradient_norm_at_zero = dot(&gradient, &gradient).sqrt();
        problem
    }

    pub(crate) fn zero(&self) -> Parameters {
        vec![0.0; self.classes * (self.width + 1)]
    }

    /// Returns the unique minimum for `l2` above 0; `start` only affects the number of iterations.
    pub(crate) fn solve(&self, l2: f64, start: Parameters, exactness: Exactness) -> Minimum {
        let stop = Stop {
            gradient_norm: exactness.gradient_share * self.gradient_norm_at_zero,
            iterations: exactness.iterations,
        };
        minimise(&mut |parameters, gradient| self.loss(parameters, l2, gradient), start, stop)
    }

    /// Returns `J` and writes its gradient into `gradient`.
    fn loss(&self, parameters: &[f64], l2: f64, gradient: &mut [f64]) -> f64 {
        let shape = (self.classes, self.width);
        let (weight, bias) = parameters.split_at(self.classes * self.width);
        let (weight_gradient, bias_gradient) = gradient.split_at_mut(self.classes * self.width);
        let mut errors = self.at.dot(&matrix(weight, shape).t());
        let mut loss = 0.0;
        bias_gradient.fill(0.0);
        for ((mut row, class), share) in
            errors.rows_mut().into_iter().zip(&self.point_classes).zip(&self.shares)
        {
            let mut probabilities: Vec<f64> =
                row.iter().zip(bias).map(|(logit, bias)| logit + bias).collect();
            loss += share * softmax(&mut probabilities, *class);
            probabilities[*class] -= 1.0;
            for ((error, probability), of_bias) in
                row.iter_mut().zip(probabilities).zip(&mut *bias_gradient)
            {
                *error = share * probability;
                *of_bias += *error;
            }
        }
        weight_gradient.copy_from_slice(weight);
        general_mat_mul(1.0, &errors.t(), &self.at, l2, &mut matrix_mut(weight_gradient, shape));
        loss + l2 / 2.0 * dot(weight, weight)
    }
}

/// Views the values as a row-major matrix.
#[expect(clippy::expect_used, reason = "every caller cuts the slice to this shape")]
fn matrix(values: &[f64], shape: (usize, usize)) -> ArrayView2<'_, f64> {
    ArrayView2::from_shape(shape, values).expect("the slice has this shape")
}

#[expect(clippy::expect_used, reason = "every caller cuts the slice to this shape")]
fn matrix_mut(values: &mut [f64], shape: (usize, usize)) -> ArrayViewMut2<'_, f64> {
    ArrayViewMut2::from_shape(shape, values).expect("the slice has this shape")
}

/// `W x + b [classes]`
pub(crate) fn logits(parameters: &[f64], classes: usize, at: &[f64]) -> Vec<f64> {
    let (weight, bias) = parameters.split_at(classes * at.len());
    weight.chunks_exact(at.len().max(1)).zip(bias).map(|(row, bias)| dot(row, at) + bias).collect()
}

/// Turns logits into probabilities, without overflow, and returns the cross-entropy of `class`.
pub(crate) fn softmax(logits: &mut [f64], class: usize) -> f64 {
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let of_class = logits[class] - largest;
    logits.iter_mut().for_each(|logit| *logit = (*logit - largest).exp());
    let sum: f64 = logits.iter().sum();
    logits.iter_mut().for_each(|weight| *weight /= sum);
    sum.ln() - of_class
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXACT: Exactness = Exactness { gradient_share: 1e-9, iterations: 1000 };

    /// Nine points of three overlapping classes in four dimensions.
    fn coordinates() -> Vec<Vec<f64>> {
        (0..9)
            .map(|i| {
                (0..4).map(|j| ((i * 4 + j) as f64 * 2.3).sin() + f64::from(i % 3 == j)).collect()
            })
            .collect()
    }

    fn problem(coordinates: &[Vec<f64>]) -> SoftmaxRegression {
        let point = |(i, at)| Point { at, class: i % 3, weight: 1.0 + (i % 2) as f64 };
        let points: Vec<Point<'_>> =
            coordinates.iter().map(Vec::as_slice).enumerate().map(point).collect();
        SoftmaxRegression::new(&points, 3, 4)
    }

    #[test]
    fn gradient_agrees_with_finite_differences() {
        let coordinates = coordinates();
        let problem = problem(&coordinates);
        let at: Vec<f64> = (0..15).map(|index| f64::from(index).sin()).collect();
        let mut gradient = problem.zero();
        problem.loss(&at, 0.3, &mut gradient);
        for (index, derivative) in gradient.iter().enumerate() {
            let loss = |nudge: f64| {
                let mut nudged = at.clone();
                nudged[index] += nudge;
                problem.loss(&nudged, 0.3, &mut problem.zero())
            };
            let slope = (loss(1e-5) - loss(-1e-5)) / 2e-5;
            assert!((slope - derivative).abs() < 1e-8, "{index}: {slope} and {derivative}");
        }
    }

    #[test]
    fn every_start_ends_at_the_same_minimum() {
        let coordinates = coordinates();
        let problem = problem(&coordinates);
        let first = problem.solve(0.1, problem.zero(), EXACT).point;
        let second =
            problem.solve(0.1, (0..15).map(|i| f64::from(i).cos() * 5.0).collect(), EXACT).point;
        let weights = first.iter().zip(&second).take(12);
        assert!(weights.clone().all(|(a, b)| (a - b).abs() < 1e-7), "{first:?}\n{second:?}");
    }

    /// All points lie at zero: only biases matter, and the best probabilities are the class shares.
    #[test]
    fn constant_features_give_the_class_shares() {
        let origin = [0.0];
        let classes = [0, 0, 0, 1];
        let points = classes.map(|class| Point { at: &origin, class, weight: 1.0 }).to_vec();
        let problem = SoftmaxRegression::new(&points, 2, 1);
        let found = problem.solve(1.0, problem.zero(), EXACT).point;
        assert!((found[2] - found[3] - 3f64.ln()).abs() < 1e-7, "{found:?}");
    }

    #[test]
    fn huge_logits_have_a_finite_loss() {
        let mut logits = [1e300, -1e300, 0.0];
        assert!(softmax(&mut logits, 1).is_finite());
        assert_eq!(logits, [1.0, 0.0, 0.0]);
    }
}
