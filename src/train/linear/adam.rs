//! Adam (Kingma & Ba 2015, algorithm 1).

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
const EPSILON: f32 = 1e-8;

/// The optimiser's state: first and second moment of each parameter's gradient.
#[derive(Debug)]
pub(crate) struct Adam {
    learning_rate: f32,
    step: i32,
    first: Vec<f32>,
    second: Vec<f32>,
}

impl Adam {
    pub(crate) fn new(parameters: usize, learning_rate: f32) -> Self {
        Self { learning_rate, step: 0, first: vec![0.0; parameters], second: vec![0.0; parameters] }
    }

    /// Moves the parameters against the gradient; both have the length given to [`new`](Self::new).
    pub(crate) fn step(&mut self, parameters: &mut [f32], gradient: &[f32]) {
        self.step = self.step.saturating_add(1);
        let first_correction = 1.0 / (1.0 - BETA1.powi(self.step));
        let second_correction = 1.0 / (1.0 - BETA2.powi(self.step));
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((parameter, gradient), (first, second)) in
            parameters.iter_mut().zip(gradient).zip(moments)
        {
            *first = BETA1 * *first + (1.0 - BETA1) * gradient;
            *second = BETA2 * *second + (1.0 - BETA2) * gradient * gradient;
            let spread = (*second * second_correction).sqrt() + EPSILON;
            *parameter -= self.learning_rate * *first * first_correction / spread;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values are those of `torch.optim.Adam([5.0, -3.0], lr=0.1)` on the same gradients.
    #[test]
    fn steps_match_torch() {
        let mut parameters = [5.0f32, -3.0];
        let mut adam = Adam::new(2, 0.1);
        for gradient in [[1.0, -2.0], [0.5, 4.0], [-3.0, 0.0]] {
            adam.step(&mut parameters, &gradient);
        }
        let expected = [4.841_504_6, -2.964_910_3];
        for (found, expected) in parameters.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{parameters:?} and {expected:?}");
        }
    }
}
