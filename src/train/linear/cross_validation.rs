//! Cross-validation of L2 strengths on the training pictures; validation pictures stay untouched.

use rayon::prelude::*;
use serde::Serialize;

use super::{
    problem::ConvexProblem,
    softmax_regression::{Exactness, Parameters, logits, softmax},
};

/// Precise enough to compare strengths; the final fit is more exact.
const TO_COMPARE: Exactness = Exactness { gradient_share: 1e-3, iterations: 200 };
/// Power of ten of the strongest L2 tried; each next one is half a power weaker.
const STRONGEST_POWER: f64 = 3.0;
const MAX_STRENGTHS: usize = 17;
/// Number of strengths in a row without improvement after which the path ends.
const PATIENCE: usize = 3;

/// The fold of each row; rows of one group share a fold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folds {
    /// `[rows]`
    pub of_rows: Vec<usize>,
    /// `[rows]`: whether the row is scored; augmented views are only trained on.
    pub judges: Vec<bool>,
    pub count: usize,
}

/// The cross-validation score of one L2 strength.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Score {
    pub l2: f64,
    /// Mean cross-entropy in nats of the held-out pictures, weighted as in the fit.
    pub log_loss: f64,
    /// Share of the held-out pictures whose most probable class is their own.
    pub accuracy: f64,
}

/// Returns the L2 strengths to try, from strong to weak so that warm starts are cheap.
pub(crate) fn l2_path() -> impl Iterator<Item = f64> {
    (0..MAX_STRENGTHS).map(|step| 10f64.powf(STRONGEST_POWER - step as f64 / 2.0))
}

/// Scores each strength in order; ends early once weaker ones no longer improve.
///
/// Deterministic, whatever the number of threads.
pub(crate) fn cross_validate(
    problem: &ConvexProblem,
    folds: &Folds,
    strengths: impl Iterator<Item = f64>,
) -> Vec<Score> {
    let regressions: Vec<_> =
        (0..folds.count).map(|fold| problem.regression(|row| folds.of_rows[row] != fold)).collect();
    let mut found: Vec<Parameters> =
        regressions.iter().map(|regression| regression.zero()).collect();
    let mut scores: Vec<Score> = Vec::new();
    for l2 in strengths {
        let sums: Vec<FoldSums> = found
            .par_iter_mut()
            .zip(&regressions)
            .enumerate()
            .map(|(fold, (parameters, regression))| {
                *parameters = regression.solve(l2, std::mem::take(parameters), TO_COMPARE).point;
                score_fold(problem, folds, fold, parameters)
            })
            .collect();
        let sum = |value: fn(&FoldSums) -> f64| sums.iter().map(value).sum::<f64>();
        scores.push(Score {
            l2,
            log_loss: sum(|fold| fold.loss) / sum(|fold| fold.weight),
            accuracy: sum(|fold| fold.right) / sum(|fold| fold.pictures),
        });
        let best = best(&scores);
        if scores.len() > best + PATIENCE {
            break;
        }
    }
    scores
}

/// Returns the index of the lowest loss; the first one on a tie.
pub(crate) fn best(scores: &[Score]) -> usize {
    let mut best = 0;
    for (index, score) in scores.iter().enumerate() {
        if score.log_loss < scores[best].log_loss {
            best = index;
        }
    }
    best
}

/// Sums over the scored rows of a fold.
struct FoldSums {
    loss: f64,
    weight: f64,
    right: f64,
    pictures: f64,
}

fn score_fold(problem: &ConvexProblem, folds: &Folds, fold: usize, parameters: &[f64]) -> FoldSums {
    let mut sums = FoldSums { loss: 0.0, weight: 0.0, right: 0.0, pictures: 0.0 };
    for row in (0..problem.rows()).filter(|&row| folds.of_rows[row] == fold && folds.judges[row]) {
        let (class, weight) = (problem.row_classes[row], problem.row_weights[row]);
        let mut probabilities = logits(parameters, problem.classes, problem.at(row));
        sums.loss += weight * softmax(&mut probabilities, class);
        sums.weight += weight;
        sums.right += f64::from(probabilities.iter().all(|other| *other <= probabilities[class]));
        sums.pictures += 1.0;
    }
    sums
}
