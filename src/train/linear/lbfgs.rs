//! Limited-memory BFGS (Liu and Nocedal 1989) in double precision, for smooth convex functions.

use std::collections::VecDeque;

/// Number of correction pairs kept: a step, and the change of the gradient along it.
const MEMORY: usize = 10;
/// Share of the decrease predicted by the slope that a step must achieve (Armijo condition).
const SUFFICIENT_DECREASE: f64 = 1e-4;
/// A step halved this often is lost in rounding.
const MAX_HALVINGS: usize = 40;

/// The stopping criteria.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stop {
    /// Euclidean norm of the gradient to reach.
    pub(crate) gradient_norm: f64,
    pub(crate) iterations: usize,
}

/// Where the search ended.
#[derive(Debug, Clone)]
pub(crate) struct Minimum {
    pub(crate) point: Vec<f64>,
    pub(crate) iterations: usize,
}

/// A correction pair, with `1 / (step · change)`.
struct Pair {
    step: Vec<f64>,
    change: Vec<f64>,
    inverse_curvature: f64,
}

/// Minimises `objective`, which writes its gradient into the second slice and returns its value.
///
/// Directions come from the two-loop recursion (Nocedal and Wright 2006, algorithm 7.4), step
/// lengths from backtracking by halves. Ends when `stop` is met or rounding hides any further
/// decrease. The same input yields the same bits.
pub(crate) fn minimise(
    objective: &mut dyn FnMut(&[f64], &mut [f64]) -> f64,
    start: Vec<f64>,
    stop: Stop,
) -> Minimum {
    let mut point = start;
    let mut gradient = vec![0.0; point.len()];
    let mut value = objective(&point, &mut gradient);
    let mut pairs: VecDeque<Pair> = VecDeque::with_capacity(MEMORY);
    let (mut trial, mut trial_gradient) = (point.clone(), gradient.clone());
    let mut iterations = 0;
    while norm(&gradient) > stop.gradient_norm && iterations < stop.iterations {
        let direction = direction(&pairs, &gradient);
        let slope = dot(&direction, &gradient);
        let mut length = 1.0;
        let mut halvings = 0;
        let accepted = loop {
            trial.copy_from_slice(&point);
            add_scaled(&mut trial, length, &direction);
            let trial_value = objective(&trial, &mut trial_gradient);
            if trial_value <= value + SUFFICIENT_DECREASE * length * slope {
                break Some(trial_value);
            }
            if halvings == MAX_HALVINGS {
                break None;
            }
            halvings += 1;
            length /= 2.0;
        };
        let Some(lower) = accepted else { break };
        let step: Vec<f64> = trial.iter().zip(&point).map(|(new, old)| new - old).collect();
        let change: Vec<f64> =
            trial_gradient.iter().zip(&gradient).map(|(new, old)| new - old).collect();
        let curvature = dot(&step, &change);
        // Positive for a convex function, except for rounding.
        if curvature > f64::EPSILON * norm(&step) * norm(&change) {
            if pairs.len() == MEMORY {
                pairs.pop_front();
            }
            pairs.push_back(Pair { step, change, inverse_curvature: 1.0 / curvature });
        }
        std::mem::swap(&mut point, &mut trial);
        std::mem::swap(&mut gradient, &mut trial_gradient);
        value = lower;
        iterations += 1;
    }
    Minimum { point, iterations }
}

/// Returns minus the estimated inverse Hessian times the gradient.
fn direction(pairs: &VecDeque<Pair>, gradient: &[f64]) -> Vec<f64> {
    let mut direction: Vec<f64> = gradient.iter().map(|slope| -slope).collect();
    let mut shares = Vec::with_capacity(pairs.len());
    for pair in pairs.iter().rev() {
        let share = pair.inverse_curvature * dot(&pair.step, &direction);
        add_scaled(&mut direction, -share, &pair.change);
        shares.push(share);
    }
    let scale = match pairs.back() {
        Some(newest) => 1.0 / (newest.inverse_curvature * dot(&newest.change, &newest.change)),
        None => 1.0 / norm(gradient).max(1.0),
    };
    direction.iter_mut().for_each(|value| *value *= scale);
    for (pair, share) in pairs.iter().zip(shares.into_iter().rev()) {
        let correction = pair.inverse_curvature * dot(&pair.change, &direction);
        add_scaled(&mut direction, share - correction, &pair.step);
    }
    direction
}

/// Number of independent partial sums, which the compiler can keep in vector registers.
const LANES: usize = 8;

/// Returns the scalar product of two vectors of equal length.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0f64; LANES];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        sums = std::array::from_fn(|lane| sums[lane] + a[lane] * b[lane]);
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f64>() + rest
}

/// `to += factor * vector`
pub(crate) fn add_scaled(to: &mut [f64], factor: f64, vector: &[f64]) {
    to.iter_mut().zip(vector).for_each(|(to, value)| *to += factor * value);
}

fn norm(vector: &[f64]) -> f64 {
    dot(vector, vector).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIGHT: Stop = Stop { gradient_norm: 1e-9, iterations: 1000 };

    #[test]
    fn finds_the_minimum_of_an_ill_conditioned_quadratic() {
        // sum of 10^i (x_i - i)^2 / 2 for i = 0 .. 5
        let mut objective = |point: &[f64], gradient: &mut [f64]| {
            let mut value = 0.0;
            for (index, (x, slope)) in point.iter().zip(gradient).enumerate() {
                let (stretch, off) = (10f64.powi(index as i32), x - index as f64);
                *slope = stretch * off;
                value += stretch * off * off / 2.0;
            }
            value
        };
        let found = minimise(&mut objective, vec![9.0; 6], TIGHT);
        for (index, x) in found.point.iter().enumerate() {
            assert!((x - index as f64).abs() < 1e-7, "{found:?}");
        }
        assert!(found.iterations < 100, "{found:?}");
    }

    /// Rosenbrock's function, minimum 0 at (1, 1): not convex, the usual quasi-Newton test.
    #[test]
    fn follows_a_curved_valley() {
        let mut objective = |p: &[f64], gradient: &mut [f64]| {
            let (a, b) = (1.0 - p[0], p[1] - p[0] * p[0]);
            gradient[0] = -2.0 * a - 400.0 * p[0] * b;
            gradient[1] = 200.0 * b;
            a * a + 100.0 * b * b
        };
        let found = minimise(&mut objective, vec![-1.2, 1.0], TIGHT);
        assert!(found.point.iter().all(|x| (x - 1.0).abs() < 1e-6), "{found:?}");
    }

    #[test]
    fn stops_at_a_minimum_and_at_the_iteration_limit() {
        let mut objective = |point: &[f64], gradient: &mut [f64]| {
            gradient[0] = 2.0 * point[0];
            point[0] * point[0]
        };
        assert_eq!(minimise(&mut objective, vec![0.0], TIGHT).iterations, 0);
        let one_iteration = Stop { iterations: 1, ..TIGHT };
        assert_eq!(minimise(&mut objective, vec![3.0], one_iteration).iterations, 1);
    }

    #[test]
    fn ends_where_rounding_hides_any_decrease() {
        // The gradient is wrong: the value never falls.
        let mut objective = |_: &[f64], gradient: &mut [f64]| {
            gradient[0] = 1.0;
            1.0
        };
        let found = minimise(&mut objective, vec![3.0], TIGHT);
        assert_eq!((found.iterations, found.point), (0, vec![3.0]));
    }
}
