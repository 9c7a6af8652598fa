//! Standardised features: mean 0 and standard deviation 1 over the training pictures.

use super::examples::Examples;

/// A feature with a smaller deviation counts as constant: it is shifted but not scaled.
const LEAST_DEVIATION: f64 = 1e-6;

/// Mean and standard deviation of each feature over the training pictures.
#[derive(Debug)]
pub(crate) struct Scaling {
    pub(crate) mean: Vec<f64>,
    pub(crate) deviation: Vec<f64>,
}

impl Scaling {
    pub(crate) fn of(examples: &Examples) -> Self {
        let count = examples.len().max(1) as f64;
        let mean_over = |value: &dyn Fn(usize, f32) -> f64| {
            let mut sums = vec![0.0f64; examples.width];
            for row in examples.rows() {
                sums.iter_mut()
                    .zip(row.features)
                    .enumerate()
                    .for_each(|(i, (sum, &x))| *sum += value(i, x));
            }
            sums.into_iter().map(|sum| sum / count).collect::<Vec<f64>>()
        };
        let mean = mean_over(&|_, x| f64::from(x));
        let variance = mean_over(&|i, x| (f64::from(x) - mean[i]).powi(2));
        let scale =
            |variance: f64| if variance.sqrt() < LEAST_DEVIATION { 1.0 } else { variance.sqrt() };
        Self { deviation: variance.into_iter().map(scale).collect(), mean }
    }

    /// Returns the standardised features, `[rows, width]`.
    pub(crate) fn apply(&self, examples: &Examples) -> Vec<f64> {
        let columns = || self.mean.iter().zip(&self.deviation);
        let rows = examples.rows().flat_map(|row| {
            row.features
                .iter()
                .zip(columns())
                .map(|(&x, (mean, deviation))| (f64::from(x) - mean) / deviation)
        });
        rows.collect()
    }

    /// Returns the classifier of raw features that equals `(weight, bias)` on standardised ones.
    ///
    /// Shapes: `[classes, width]`, `[classes]`. `w (x - mean) / deviation + b` is linear in `x`.
    pub(crate) fn fold(&self, weight: &[f64], bias: &[f64]) -> (Vec<f32>, Vec<f32>) {
        let (mut folded_weight, mut folded_bias) = (Vec::with_capacity(weight.len()), Vec::new());
        for (row, b) in weight.chunks_exact(self.mean.len().max(1)).zip(bias) {
            let mut shifted = *b;
            for ((w, mean), deviation) in row.iter().zip(&self.mean).zip(&self.deviation) {
                let folded = w / deviation;
                shifted -= folded * mean;
                folded_weight.push(folded as f32);
            }
            folded_bias.push(shifted as f32);
        }
        (folded_weight, folded_bias)
    }
}
