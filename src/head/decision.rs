//! From logits to a verdict: softmax, the winner's threshold, then pass, reject or review.

use serde::{Deserialize, Serialize};

use super::Class;

/// How a head turns logits into a decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionRule {
    /// Divides the logits before the softmax (Guo et al. 2017); 1 leaves them unchanged.
    pub temperature: f32,
    /// One probability per class; a winner below its own goes to a person for review.
    pub thresholds: Box<[f32]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decision {
    /// A class marked good, at or above its threshold.
    Pass,
    /// A class not marked good, at or above its threshold.
    Reject,
    /// Below the threshold: a person should look.
    Review,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    Clear,
    LowConfidence,
}

/// The answer of one head to one image.
#[derive(Debug, Clone, PartialEq)]
pub struct Judgement {
    pub decision: Decision,
    pub reason: Reason,
    /// Index of the most probable class.
    pub winner: usize,
    /// The largest probability minus the second largest.
    pub margin: f32,
    /// One per class, in the order of the head's classes.
    pub probabilities: Vec<f32>,
    pub logits: Vec<f32>,
}

impl DecisionRule {
    /// Returns a rule with the same threshold for every class and temperature 1.
    pub fn uniform(threshold: f32, classes: usize) -> Self {
        Self { temperature: 1.0, thresholds: vec![threshold; classes].into() }
    }

    pub(super) fn judge(&self, classes: &[Class], logits: Vec<f32>) -> Judgement {
        let probabilities = softmax(&logits, self.temperature);
        let (winner, second) = first_and_second(&probabilities);
        // False for NaN, which a broken device may compute: NaN goes to review.
        let is_sure = probabilities[winner] >= self.thresholds[winner];
        let (decision, reason) = match (is_sure, classes[winner].good) {
            (true, true) => (Decision::Pass, Reason::Clear),
            (true, false) => (Decision::Reject, Reason::Clear),
            (false, _) => (Decision::Review, Reason::LowConfidence),
        };
        Judgement {
            decision,
            reason,
            winner,
            margin: probabilities[winner] - second,
            probabilities,
            logits,
        }
    }
}

/// Returns the index of the first largest value, and the second largest value or 0.
fn first_and_second(probabilities: &[f32]) -> (usize, f32) {
    let (mut winner, mut largest, mut second) = (0, f32::NEG_INFINITY, 0.0);
    for (class, &probability) in probabilities.iter().enumerate() {
        if probability > largest {
            second = largest.max(0.0);
            (winner, largest) = (class, probability);
        } else if probability > second {
            second = probability;
        }
    }
    (winner, second)
}

/// Computes the softmax of logits shifted by the largest, so that it cannot overflow.
fn softmax(logits: &[f32], temperature: f32) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f32> =
        logits.iter().map(|logit| ((logit - largest) / temperature).exp()).collect();
    let sum: f32 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(threshold: f32, logits: &[f32]) -> Judgement {
        let classes = [("ok", true), ("scratch", false), ("dent", false)]
            .map(|(label, good)| Class { label: label.into(), code: 1, good });
        DecisionRule::uniform(threshold, 3).judge(&classes, logits.to_vec())
    }

    #[test]
    fn passes_only_a_good_class_that_reaches_its_threshold() {
        assert_eq!(judge(0.5, &[3.0, 0.0, 0.0]).decision, Decision::Pass);
        assert_eq!(judge(0.5, &[0.0, 3.0, 0.0]).decision, Decision::Reject);
        let unsure = judge(0.99, &[3.0, 0.0, 0.0]);
        assert_eq!((unsure.decision, unsure.reason), (Decision::Review, Reason::LowConfidence));
    }

    #[test]
    fn margin_is_to_the_second_in_any_order() {
        for logits in [[3.0, 2.0, 1.0], [2.0, 3.0, 1.0], [1.0, 2.0, 3.0], [2.0, 1.0, 3.0]] {
            let judgement = judge(0.5, &logits);
            let mut sorted = judgement.probabilities.clone();
            sorted.sort_by(f32::total_cmp);
            assert_eq!(judgement.probabilities[judgement.winner], sorted[2]);
            assert_eq!(judgement.margin, sorted[2] - sorted[1], "{logits:?}");
        }
        let tie = judge(0.1, &[1.0, 1.0, 0.0]);
        assert_eq!((tie.winner, tie.margin), (0, 0.0), "the first wins a tie");
    }

    #[test]
    fn nan_logits_go_to_review() {
        assert_eq!(judge(0.5, &[f32::NAN, 0.0, 0.0]).decision, Decision::Review);
        assert_eq!(judge(0.0, &[f32::NAN; 3]).decision, Decision::Review);
    }

    #[test]
    fn probabilities_sum_to_one_even_for_huge_logits() {
        let judgement = judge(0.5, &[1e30, -1e30, 5e29]);
        assert!((judgement.probabilities.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert_eq!(judgement.winner, 0);
        assert!((judgement.margin - 1.0).abs() < 1e-6);
    }
}
