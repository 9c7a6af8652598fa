//! The publishing gate: a head that is worse than the one that serves, beyond chance, is not
//! published.

use serde::Serialize;

use crate::ids::{Digest, Version};

/// A difference that chance alone makes in at least so many cases says nothing.
pub(crate) const SIGNIFICANCE: f64 = 0.05;

/// What the gate found, for the head's evidence.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gate {
    pub decision: GateDecision,
    /// `None` if no head of this task and base is there.
    pub comparison: Option<Comparison>,
    /// Why somebody wanted it published whatever the gate says.
    pub forced_because: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GateDecision {
    /// Nothing serves that it could be worse than.
    NothingToCompare,
    /// Not worse beyond chance.
    Passed,
    /// Worse beyond chance, and published because somebody insisted.
    Forced,
    /// Worse beyond chance.
    Refused,
}

/// The new head and the one that serves on the same pictures, which the new one did not learn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Comparison {
    pub version: Version,
    pub digest: Digest,
    pub pictures: usize,
    /// Pictures on which only the new head is right.
    pub only_new_right: usize,
    /// Pictures on which only the head that serves is right.
    pub only_serving_right: usize,
    /// How often chance alone would speak so much or more against the new head, were both equally
    /// good: the exact, one-sided test of McNemar (1947).
    pub p_worse: f64,
}

impl Comparison {
    /// From pairs: whether the new head is right, and whether the one that serves is.
    pub fn new(
        version: Version,
        digest: Digest,
        answers: impl IntoIterator<Item = (bool, bool)>,
    ) -> Self {
        let (mut pictures, mut only_new_right, mut only_serving_right) = (0, 0, 0);
        for (new, serving) in answers {
            pictures += 1;
            only_new_right += usize::from(new && !serving);
            only_serving_right += usize::from(serving && !new);
        }
        let p_worse = at_least_heads(only_serving_right, only_new_right + only_serving_right);
        Self { version, digest, pictures, only_new_right, only_serving_right, p_worse }
    }
}

impl Gate {
    pub fn new(comparison: Option<Comparison>, forced_because: Option<String>) -> Self {
        let decision = match (&comparison, &forced_because) {
            (None, _) => GateDecision::NothingToCompare,
            (Some(found), _) if found.p_worse >= SIGNIFICANCE => GateDecision::Passed,
            (Some(_), Some(_)) => GateDecision::Forced,
            (Some(_), None) => GateDecision::Refused,
        };
        Self { decision, comparison, forced_because }
    }
}

/// Probability of `heads` or more in `tosses` of a fair coin.
fn at_least_heads(heads: usize, tosses: usize) -> f64 {
    // ln of the binomial coefficients, one from the other; the powers of two would underflow.
    let mut log_coefficient = 0.0;
    let mut probability = 0.0;
    for count in 0..=tosses {
        if count >= heads {
            probability += (log_coefficient - tosses as f64 * std::f64::consts::LN_2).exp();
        }
        log_coefficient += ((tosses - count) as f64).ln() - ((count + 1) as f64).ln();
    }
    probability.min(1.0)
}

/// Index of the most probable class; the first of equals.
pub(crate) fn winner(logits: &[f32]) -> usize {
    let mut winner = 0;
    for (class, logit) in logits.iter().enumerate() {
        if *logit > logits[winner] {
            winner = class;
        }
    }
    winner
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison(only_new_right: usize, only_serving_right: usize) -> Comparison {
        let answers = [(true, false)].repeat(only_new_right).into_iter();
        let answers =
            answers.chain([(false, true)].repeat(only_serving_right)).chain([(true, true); 5]);
        Comparison::new(3, Digest::of(b"head"), answers)
    }

    /// The values are those of `scipy.stats.binomtest(b, a + b, alternative="greater")`.
    #[test]
    fn the_test_is_the_exact_binomial_one() {
        for (only_new, only_serving, expected) in [
            (0, 4, 0.0625),
            (0, 5, 0.03125),
            (3, 11, 0.028_686_523),
            (7, 7, 0.604_736_328),
            (900, 1000, 0.011_554_4),
        ] {
            let found = comparison(only_new, only_serving).p_worse;
            assert!(
                (found - expected).abs() < 1e-5,
                "{only_new} and {only_serving}: {found} and {expected}"
            );
        }
        assert_eq!(comparison(0, 0).p_worse, 1.0);
    }

    #[test]
    fn refuses_only_what_is_worse_beyond_chance_and_lets_a_reason_overrule() {
        let decision = |comparison, reason: Option<&str>| {
            Gate::new(comparison, reason.map(str::to_owned)).decision
        };
        assert_eq!(decision(None, None), GateDecision::NothingToCompare);
        assert_eq!(decision(Some(comparison(0, 4)), None), GateDecision::Passed);
        assert_eq!(decision(Some(comparison(9, 0)), None), GateDecision::Passed);
        assert_eq!(decision(Some(comparison(0, 5)), None), GateDecision::Refused);
        assert_eq!(decision(Some(comparison(0, 5)), Some("new camera")), GateDecision::Forced);
    }
}
