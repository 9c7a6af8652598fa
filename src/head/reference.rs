//! Reference pictures, with which a server proves that its base computes what the trainer's did.
//!
//! A head carries small pictures, their features from the trainer's base, and so their verdicts.

use bytes::Bytes;

use super::{Class, Linear};
use crate::image::{PreparedImage, Preprocess};

/// Most reference pictures that a head carries.
pub const MAX_REFERENCES: usize = 8;
/// Side in pixels, the smallest that every base takes: a forward pass costs a fiftieth.
pub const REFERENCE_SIDE: u32 = 32;

/// Relative tolerance of features in the trainer's arithmetic, where only summation order differs.
const SAME_ARITHMETIC_TOLERANCE: f32 = 1e-3;
/// In another arithmetic: bf16 is about 0.003 off, int8 0.01 to 0.05. Verdicts must still agree.
const OTHER_ARITHMETIC_TOLERANCE: f32 = 0.1;

/// Up to [`MAX_REFERENCES`] pictures with their features, one row each.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ReferenceSet {
    /// `[pictures, side, side, 3]`, side [`REFERENCE_SIDE`]
    pub pixels: Vec<u8>,
    /// `[pictures, width of the head's features]`
    pub features: Vec<f32>,
}

/// How a server's base differs from the trainer's, although their weights agree.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ReferenceMismatch {
    #[error(
        "the features of its reference picture {picture} are {error} off, the limit is {most}: it \
         was trained in {trained_in}, this server computes in {serving_in}; retrain it with this \
         server's --precision"
    )]
    Features { picture: usize, error: f32, most: f32, trained_in: String, serving_in: String },
    #[error(
        "its reference picture {picture} is classified {found:?} here and was {expected:?} where \
         it was trained ({trained_in}; this server computes in {serving_in}); retrain it with this \
         server's --precision"
    )]
    Verdict {
        picture: usize,
        expected: Box<str>,
        found: Box<str>,
        trained_in: String,
        serving_in: String,
    },
    #[error("this server's base computed {found} features for its {expected} reference pictures")]
    Missing { expected: usize, found: usize },
}

/// The parts of a head that the comparison needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judge<'a> {
    pub(super) linear: &'a Linear,
    pub(super) classes: &'a [Class],
    pub(super) trained_in: &'a str,
}

impl ReferenceSet {
    pub fn len(&self) -> usize {
        self.pixels.len() / Self::picture_bytes()
    }

    pub fn is_empty(&self) -> bool {
        self.pixels.is_empty()
    }

    pub(super) const fn picture_bytes() -> usize {
        (REFERENCE_SIDE * REFERENCE_SIDE * 3) as usize
    }

    /// Returns the pictures as input of the base.
    pub fn pictures(&self, preprocess: &Preprocess) -> Vec<PreparedImage> {
        let Preprocess { mean, std, .. } = *preprocess;
        let picture = |pixels: &[u8]| PreparedImage {
            side: REFERENCE_SIDE,
            pixels: Bytes::copy_from_slice(pixels),
            mean,
            std,
        };
        self.pixels.chunks_exact(Self::picture_bytes()).map(picture).collect()
    }

    /// Compares features that the base computed here, `[pictures, width]`, with the trainer's.
    pub(super) fn check(
        &self,
        found: &[f32],
        serving_in: &str,
        judge: Judge<'_>,
    ) -> Result<(), ReferenceMismatch> {
        if found.len() != self.features.len() {
            let (expected, found) = (self.len(), found.len());
            return Err(ReferenceMismatch::Missing { expected, found });
        }
        let trained_in = || judge.trained_in.to_owned();
        let most = if serving_in == judge.trained_in {
            SAME_ARITHMETIC_TOLERANCE
        } else {
            OTHER_ARITHMETIC_TOLERANCE
        };
        let width = judge.linear.width().max(1);
        for (index, (found, expected)) in
            found.chunks_exact(width).zip(self.features.chunks_exact(width)).enumerate()
        {
            let (picture, serving_in) = (index + 1, serving_in.to_owned());
            let error = relative_distance(found, expected);
            if error.is_nan() || error > most {
                return Err(ReferenceMismatch::Features {
                    picture,
                    error,
                    most,
                    trained_in: trained_in(),
                    serving_in,
                });
            }
            let winners = [expected, found].map(|features| judge.linear.winner(features));
            if winners[0] != winners[1] {
                let label = |class: usize| {
                    judge.classes.get(class).map(|class| class.label.clone()).unwrap_or_default()
                };
                let [expected, found] = winners.map(label);
                return Err(ReferenceMismatch::Verdict {
                    picture,
                    expected,
                    found,
                    trained_in: trained_in(),
                    serving_in,
                });
            }
        }
        Ok(())
    }
}

fn relative_distance(found: &[f32], expected: &[f32]) -> f32 {
    let squares =
        |values: &mut dyn Iterator<Item = f32>| values.map(|value| value * value).sum::<f32>();
    let difference = squares(&mut found.iter().zip(expected).map(|(a, b)| a - b));
    (difference / squares(&mut expected.iter().copied()).max(f32::MIN_POSITIVE)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(found: &[f32], serving_in: &str) -> Result<(), ReferenceMismatch> {
        let linear = Linear::new(vec![1.0, 0.0, 0.0, 1.0], vec![0.0; 2], 2).unwrap();
        let set = ReferenceSet {
            pixels: vec![7; 2 * ReferenceSet::picture_bytes()],
            features: vec![1.0, 0.98, 0.0, 1.0],
        };
        let classes =
            ["ok", "scratch"].map(|label| Class { label: label.into(), code: 1, good: false });
        set.check(
            found,
            serving_in,
            Judge { linear: &linear, classes: &classes, trained_in: "fp32" },
        )
    }

    #[test]
    fn equal_features_pass_with_a_little_noise() {
        assert_eq!(check(&[1.0, 0.98, 0.0, 1.0], "fp32"), Ok(()));
        assert_eq!(check(&[1.0001, 0.98, 0.0, 1.0], "fp32"), Ok(()));
    }

    #[test]
    fn other_arithmetic_has_more_tolerance_but_the_same_verdict() {
        let off = [1.02, 0.98, 0.0, 1.03];
        assert!(matches!(check(&off, "fp32"), Err(ReferenceMismatch::Features { picture: 1, .. })));
        assert_eq!(check(&off, "bf16"), Ok(()));
        assert!(matches!(
            check(&[0.98, 1.0, 0.0, 1.0], "bf16"),
            Err(ReferenceMismatch::Verdict { picture: 1, .. })
        ));
        assert!(matches!(
            check(&[1.0, 0.98, 0.5, 1.0], "bf16"),
            Err(ReferenceMismatch::Features { picture: 2, .. })
        ));
    }

    #[test]
    fn nan_and_missing_features_are_mismatches() {
        assert!(check(&[f32::NAN, 0.98, 0.0, 1.0], "bf16").is_err());
        assert!(matches!(check(&[1.0, 0.98], "fp32"), Err(ReferenceMismatch::Missing { .. })));
    }
}
