//! Adam on libtorch's tensors (Kingma and Ba 2015, algorithm 1).
//!
//! Its state can be saved; the optimisers of tch hide theirs.

use tch::{TchError, Tensor, no_grad_guard};

const MEAN_DECAY: f64 = 0.9;
const SQUARE_DECAY: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// A parameter with its own learning rate and the moments of its gradients.
#[derive(Debug)]
pub(super) struct Learner {
    pub(super) name: String,
    pub(super) parameter: Tensor,
    rate: f64,
    mean: Tensor,
    square: Tensor,
}

/// The parts of a [`Learner`]'s state by name; copying into these tensors restores a state.
pub(super) type State = Vec<(String, Tensor)>;

impl Learner {
    pub(super) fn new(name: &str, parameter: &Tensor, rate: f64) -> Result<Self, TchError> {
        let (mean, square) =
            (parameter.f_zeros_like()?.f_detach()?, parameter.f_zeros_like()?.f_detach()?);
        Ok(Self { name: name.to_owned(), parameter: parameter.shallow_clone(), rate, mean, square })
    }

    pub(super) fn state(&self) -> State {
        let parts =
            [("parameter", &self.parameter), ("mean", &self.mean), ("square", &self.square)];
        parts.map(|(part, tensor)| (format!("{part}.{}", self.name), tensor.shallow_clone())).into()
    }

    /// Takes one step; `step` counts from 1.
    fn step(&mut self, gradient: &Tensor, step: i32, rate_factor: f64) -> Result<(), TchError> {
        let mean_correction = 1.0 - MEAN_DECAY.powi(step);
        let square_correction = (1.0 - SQUARE_DECAY.powi(step)).sqrt();
        let _ = self.mean.f_lerp_(gradient, 1.0 - MEAN_DECAY)?;
        let _ = self.square.f_lerp_(&gradient.f_square()?, 1.0 - SQUARE_DECAY)?;
        let deviation = self.square.f_sqrt()?.f_add_scalar_(EPSILON * square_correction)?;
        let scale = -self.rate * rate_factor * square_correction / mean_correction;
        let _ = self.parameter.f_addcdiv_(&self.mean.f_mul_scalar(scale)?, &deviation)?;
        Ok(())
    }
}

/// Steps every parameter down the gradient of `loss`.
pub(super) fn step(
    learners: &mut [Learner],
    loss: &Tensor,
    step: i32,
    rate_factor: f64,
) -> Result<(), TchError> {
    let parameters: Vec<&Tensor> = learners.iter().map(|learner| &learner.parameter).collect();
    let gradients = Tensor::f_run_backward(&[loss], &parameters, false, false)?;
    let _guard = no_grad_guard();
    for (learner, gradient) in learners.iter_mut().zip(&gradients) {
        // A convolution's gradient may be channels last; in the parameter's order steps are faster.
        learner.step(&gradient.f_contiguous()?, step, rate_factor)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, nn, nn::OptimizerConfig as _};

    use super::*;

    #[test]
    fn matches_libtorchs_adam_with_a_rate_per_parameter() {
        let variables = nn::VarStore::new(Device::Cpu);
        let start = Tensor::linspace(-1.0, 1.0, 6, (Kind::Float, Device::Cpu));
        let theirs = variables.root().var_copy("w", &start);
        let ours = start.copy().set_requires_grad(true);
        let slow = start.copy().set_requires_grad(true);
        let mut learners = [("w", &ours, 0.1), ("slow", &slow, 0.01)]
            .map(|(name, parameter, rate)| Learner::new(name, parameter, rate).unwrap());
        let mut optimiser = nn::Adam::default().build(&variables, 0.1).unwrap();
        let loss =
            |w: &Tensor, scale: f64| ((w * scale - 0.3).square() * (w + 2.0)).sum(Kind::Float);
        for number in 1..6 {
            let scale = f64::from(number);
            optimiser.backward_step(&loss(&theirs, scale));
            step(&mut learners, &(loss(&ours, scale) + loss(&slow, scale)), number, 1.0).unwrap();
        }
        assert!((&ours - &theirs).abs().max().double_value(&[]) < 1e-6, "{ours} {theirs}");
        let moved = |w: &Tensor| (w - &start).abs().max().double_value(&[]);
        assert!(moved(&slow) < 0.2 * moved(&ours), "{} and {}", moved(&slow), moved(&ours));
    }
}
