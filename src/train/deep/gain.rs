//! Whether private layers beat the shared ones, measured on held-out pictures.

use serde::Serialize;

/// The normal distribution's 97.5 % point, for two-sided 95 % intervals.
const Z: f64 = 1.959_964;

/// Paired comparison of fine-tuning and feature extraction in cross-validation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Gain {
    pub pictures: usize,
    /// Pictures on which only the fine-tuned head is right.
    pub only_deep_right: usize,
    /// Pictures on which only the linear head is right.
    pub only_linear_right: usize,
    /// Difference in accuracy, positive if fine-tuning is better.
    pub gain: f64,
    /// 95 % adjusted Wald interval for paired proportions (Agresti and Min 2005).
    pub interval: [f64; 2],
}

impl Gain {
    pub fn new(pictures: usize, only_deep_right: usize, only_linear_right: usize) -> Self {
        let gain = (only_deep_right as f64 - only_linear_right as f64) / pictures.max(1) as f64;
        // The adjustment: half a picture more in each cell of the two-by-two table.
        let (count, deep, linear) =
            (pictures as f64 + 2.0, only_deep_right as f64 + 0.5, only_linear_right as f64 + 0.5);
        let middle = (deep - linear) / count;
        let reach = Z * (deep + linear - (deep - linear).powi(2) / count).sqrt() / count;
        Self {
            pictures,
            only_deep_right,
            only_linear_right,
            gain,
            interval: [middle - reach, middle + reach],
        }
    }

    /// Returns whether the whole interval is above zero: a gain beyond chance.
    pub fn is_real(&self) -> bool {
        self.interval[0] > 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand for 300, 12 and 3: `9 / 302 ± sqrt(16 - 81 / 302) / 302 * 1.96`.
    #[test]
    fn interval_is_that_of_agresti_and_min() {
        let gain = Gain::new(300, 12, 3);
        assert!((gain.gain - 0.03).abs() < 1e-12);
        assert!((gain.interval[0] - (0.029_801 - 0.025_741)).abs() < 1e-5, "{gain:?}");
        assert!((gain.interval[1] - (0.029_801 + 0.025_741)).abs() < 1e-5, "{gain:?}");
        assert!(gain.is_real());
    }

    #[test]
    fn gain_on_few_pictures_is_not_real() {
        assert!(!Gain::new(300, 4, 0).is_real());
        assert!(Gain::new(300, 6, 0).is_real());
        assert!(!Gain::new(300, 6, 3).is_real());
        assert!(!Gain::new(0, 0, 0).is_real());
    }
}
