//! The linear classifier `logits = W f + b`, in host memory.

use std::array;

/// Independent partial sums, which the compiler can keep in one vector register.
const LANES: usize = 16;

/// A linear classifier: `weight` is `[classes, width]` in row-major order, `bias` is `[classes]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    weight: Box<[f32]>,
    bias: Box<[f32]>,
    width: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{weights} weights do not make {classes} rows of {width}")]
pub struct LinearShapeError {
    pub classes: usize,
    pub width: usize,
    pub weights: usize,
}

impl Linear {
    pub fn new(weight: Vec<f32>, bias: Vec<f32>, width: usize) -> Result<Self, LinearShapeError> {
        if width == 0 || bias.len().checked_mul(width) != Some(weight.len()) {
            return Err(LinearShapeError { classes: bias.len(), width, weights: weight.len() });
        }
        Ok(Self { weight: weight.into(), bias: bias.into(), width })
    }

    pub fn classes(&self) -> usize {
        self.bias.len()
    }

    /// Returns the number of features that it reads.
    pub fn width(&self) -> usize {
        self.width
    }

    pub fn weight(&self) -> &[f32] {
        &self.weight
    }

    pub fn bias(&self) -> &[f32] {
        &self.bias
    }

    /// Returns one logit per class.
    ///
    /// # Panics
    /// If `features` is not [`width`](Self::width) long: a head is installed only where it fits.
    pub fn logits(&self, features: &[f32]) -> Vec<f32> {
        assert_eq!(
            features.len(),
            self.width,
            "a head must get features of the width that it was checked against"
        );
        let rows = self.weight.chunks_exact(self.width);
        rows.zip(&self.bias).map(|(row, bias)| dot(row, features) + bias).collect()
    }

    /// Returns the class of the largest logit, the first one in a tie.
    pub fn winner(&self, features: &[f32]) -> usize {
        let logits = self.logits(features);
        let later_wins =
            |best: usize, class: usize| if logits[class] > logits[best] { class } else { best };
        (0..logits.len()).reduce(later_wins).unwrap_or(0)
    }
}

/// Returns the dot product of two vectors of equal length.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0f32; LANES];
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        sums = array::from_fn(|lane| sums[lane] + a[lane] * b[lane]);
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_are_right_for_widths_that_do_not_fill_the_lanes() {
        for width in [1, 15, 16, 17, 512, 1920] {
            let weight: Vec<f32> = (0..3 * width).map(|i| (i % 7) as f32 - 3.0).collect();
            let features: Vec<f32> = (0..width).map(|i| (i % 5) as f32 * 0.5).collect();
            let linear = Linear::new(weight.clone(), vec![1.0, 2.0, 3.0], width).unwrap();
            for (class, logit) in linear.logits(&features).into_iter().enumerate() {
                let row = &weight[class * width..(class + 1) * width];
                let expected: f32 =
                    row.iter().zip(&features).map(|(w, f)| w * f).sum::<f32>() + class as f32 + 1.0;
                assert!((logit - expected).abs() < 1e-3, "{width} wide: {logit} and {expected}");
            }
        }
    }

    #[test]
    fn new_rejects_weights_that_do_not_fill_their_rows() {
        assert!(Linear::new(vec![0.0; 511], vec![0.0], 512).is_err());
        assert!(Linear::new(vec![], vec![], 0).is_err());
    }
}
