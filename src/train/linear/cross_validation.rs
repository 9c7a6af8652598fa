//! How well a choice does on pictures that it did not learn, without touching the pictures kept back.

use rayon::prelude::*;
use serde::Serialize;

use super::{
    problem::ConvexProblem,
    softmax_regression::{Exactness, Parameters, logits, softmax},
};

/// Enough to compare strengths: the final fit goes further.
const TO_COMPARE: Exactness = Exactness { gradient_share: 1e-3, iterations: 200 };
/// Strengths tried from the strongest on, each a half power of ten below the one before.
const STRONGEST_POWER: f64 = 3.0;
const MOST_STRENGTHS: usize = 17;
/// The path ends after so many strengths in a row that were no better.
const PATIENCE: usize = 3;

/// Which rows judge together. Rows of one group share a fold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folds {
    /// `[rows]`
    pub of_rows: Vec<usize>,
    /// `[rows]`: whether the row judges; augmented views only teach.
    pub judges: Vec<bool>,
    pub count: usize,
}

/// What cross-validation found for one L2 strength.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Score {
    pub l2: f64,
    /// Mean cross-entropy in nats of pictures that were not learned, weighted as in the fit.
    pub log_loss: f64,
    /// Share of those pictures whose most probable class is theirs.
    pub accuracy: f64,
}

/// Strengths from strong to weak; warm starts make each cost little.
pub(crate) fn l2_path() -> impl Iterator<Item = f64> {
    (0..MOST_STRENGTHS).map(|step| 10f64.powf(STRONGEST_POWER - step as f64 / 2.0))
}

/// A score for each strength, in their order; ends early where weaker ones only get worse. The same input gives the
/// same numbers, whatever the number of threads.
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
        let judged: Vec<Judged> = found
            .par_iter_mut()
            .zip(&regressions)
            .enumerate()
            .map(|(fold, (parameters, regression))| {
                *parameters = regression.solve(l2, std::mem::take(parameters), TO_COMPARE).point;
                judge(problem, folds, fold, parameters)
            })
            .collect();
        let sum = |value: fn(&Judged) -> f64| judged.iter().map(value).sum::<f64>();
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

/// The first with the least loss.
pub(crate) fn best(scores: &[Score]) -> usize {
    let mut best = 0;
    for (index, score) in scores.iter().enumerate() {
        if score.log_loss < scores[best].log_loss {
            best = index;
        }
    }
    best
}

/// Sums over the judging rows of a fold.
struct Judged {
    loss: f64,
    weight: f64,
    right: f64,
    pictures: f64,
}

fn judge(problem: &ConvexProblem, folds: &Folds, fold: usize, parameters: &[f64]) -> Judged {
    let mut judged = Judged { loss: 0.0, weight: 0.0, right: 0.0, pictures: 0.0 };
    for row in (0..problem.rows()).filter(|&row| folds.of_rows[row] == fold && folds.judges[row]) {
        let (class, weight) = (problem.row_classes[row], problem.row_weights[row]);
        let mut probabilities = logits(parameters, problem.classes, problem.at(row));
        judged.loss += weight * softmax(&mut probabilities, class);
        judged.weight += weight;
        judged.right += f64::from(probabilities.iter().all(|other| *other <= probabilities[class]));
        judged.pictures += 1.0;
    }
    judged
}
