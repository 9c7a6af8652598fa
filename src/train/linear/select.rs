//! Choice of feature set and L2 strength, by cross-validation on the training pictures.

use serde::Serialize;

use super::{
    cross_validation::{Folds, Score, best, cross_validate, l2_path},
    problem::ConvexProblem,
};
use crate::base::FeatureSet;

/// L2 strength for too few pictures to try several: the path's middle on a logarithmic scale.
pub const L2_UNTRIED: f64 = 0.1;

/// One feature set with its best L2 strength.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Candidate {
    pub features: FeatureSet,
    #[serde(flatten)]
    pub score: Score,
}

/// The features and L2 strength to fit, and the candidates they were chosen from.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Choice {
    pub features: FeatureSet,
    pub l2: f64,
    /// 0 if nothing was tried: both were given, or there are too few pictures.
    pub folds: usize,
    pub candidates: Vec<Candidate>,
}

/// Chooses among feature sets of the same pictures and L2 strengths; `l2` fixes the strength.
///
/// The lowest cross-validated log-loss wins, because accuracies on few pictures are often equal.
/// On a tie the first set wins.
pub fn choose(
    sets: &[(FeatureSet, ConvexProblem)],
    folds: Option<&Folds>,
    l2: Option<f64>,
) -> Option<Choice> {
    let first = sets.first()?.0;
    let untried =
        Choice { features: first, l2: l2.unwrap_or(L2_UNTRIED), folds: 0, candidates: Vec::new() };
    let (Some(folds), false) = (folds, sets.len() == 1 && l2.is_some()) else {
        return Some(untried);
    };
    let candidates: Vec<Candidate> = sets
        .iter()
        .map(|(features, problem)| {
            let scores = match l2 {
                Some(l2) => cross_validate(problem, folds, [l2].into_iter()),
                None => cross_validate(problem, folds, l2_path()),
            };
            Candidate { features: *features, score: scores[best(&scores)] }
        })
        .collect();
    let scores: Vec<Score> = candidates.iter().map(|candidate| candidate.score).collect();
    let winner = candidates[best(&scores)];
    Some(Choice { features: winner.features, l2: winner.score.l2, folds: folds.count, candidates })
}
