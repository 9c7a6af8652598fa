//! AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019) with accessible
//! state; tch's optimisers hide theirs.

use tch::{Tensor, nn::VarStore, no_grad_guard};

const MEAN_DECAY: f64 = 0.9;
const SQUARE_DECAY: f64 = 0.999;
const EPSILON: f64 = 1e-8;

#[derive(Debug)]
pub(crate) struct AdamW {
    weight_decay: f64,
    moments: Vec<Moments>,
}

/// A parameter and the moments of its gradients.
#[derive(Debug)]
struct Moments {
    name: String,
    parameter: Tensor,
    mean: Tensor,
    square: Tensor,
    /// A scalar per parameter, because parameters that join late have made fewer steps.
    steps: Tensor,
}

impl AdamW {
    /// Creates the state of all variables that require gradients.
    pub(crate) fn new(variables: &VarStore, weight_decay: f64) -> Self {
        let _guard = no_grad_guard();
        let trainable =
            variables.variables().into_iter().filter(|(_, variable)| variable.requires_grad());
        let mut moments: Vec<Moments> = trainable
            .map(|(name, parameter)| Moments {
                name,
                mean: parameter.zeros_like(),
                square: parameter.zeros_like(),
                steps: Tensor::from(0i64),
                parameter,
            })
            .collect();
        moments.sort_by(|one, other| one.name.cmp(&other.name));
        Self { weight_decay, moments }
    }

    /// Takes one step; a parameter without a gradient of `loss` stays as it is.
    pub(crate) fn step(&mut self, loss: &Tensor, learning_rate: f64) {
        let parameters: Vec<&Tensor> = self.moments.iter().map(|one| &one.parameter).collect();
        let gradients = Tensor::run_backward(&[loss], &parameters, false, false);
        let _guard = no_grad_guard();
        for (one, gradient) in self.moments.iter_mut().zip(&gradients) {
            if gradient.defined() {
                // A convolution's gradient is channels-last; steps are faster in one layout.
                one.step(&gradient.contiguous(), learning_rate, self.weight_decay);
            }
        }
    }

    /// Returns the state beside the parameters as the optimiser's own tensors.
    ///
    /// Copying into them restores an earlier state.
    pub(crate) fn state(&self) -> Vec<(String, Tensor)> {
        let named = |one: &Moments| {
            [("mean", &one.mean), ("square", &one.square), ("steps", &one.steps)].map(
                |(part, tensor)| (format!("adamw.{part}.{}", one.name), tensor.shallow_clone()),
            )
        };
        self.moments.iter().flat_map(named).collect()
    }
}

impl Moments {
    /// Algorithm 2 of the paper, with both bias corrections applied to scalars.
    fn step(&mut self, gradient: &Tensor, learning_rate: f64, weight_decay: f64) {
        self.steps += 1;
        let steps = self.steps.int64_value(&[]) as f64;
        let mean_correction = 1.0 - MEAN_DECAY.powf(steps);
        let square_correction = (1.0 - SQUARE_DECAY.powf(steps)).sqrt();
        let _ = self.mean.lerp_(gradient, 1.0 - MEAN_DECAY);
        let _ = self.square.lerp_(&gradient.square(), 1.0 - SQUARE_DECAY);
        let deviation = self.square.sqrt().g_add_scalar_(EPSILON * square_correction);
        let step = &self.mean * (-learning_rate * square_correction / mean_correction);
        self.parameter *= 1.0 - learning_rate * weight_decay;
        let _ = self.parameter.addcdiv_(&step, &deviation);
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, nn, nn::OptimizerConfig as _};

    use super::*;

    fn loss(weight: &Tensor, step: i64) -> Tensor {
        let inputs =
            Tensor::linspace(-1.0, 1.0 + step as f64, 12, (Kind::Float, Device::Cpu)).view([3, 4]);
        (inputs.matmul(weight) - 1.0).square().sum(Kind::Float)
    }

    fn weight(variables: &VarStore, name: &str) -> Tensor {
        variables.root().var(name, &[4, 2], nn::Init::Const(0.3))
    }

    #[test]
    fn steps_equal_those_of_libtorchs_adamw() {
        let (ours, theirs) = (VarStore::new(Device::Cpu), VarStore::new(Device::Cpu));
        let (our_weight, their_weight) = (weight(&ours, "w"), weight(&theirs, "w"));
        let mut our_optimiser = AdamW::new(&ours, 0.1);
        let mut their_optimiser = nn::AdamW::default().wd(0.1).build(&theirs, 0.0).unwrap();
        for step in 1..6 {
            let learning_rate = 0.1 / step as f64;
            our_optimiser.step(&loss(&our_weight, step), learning_rate);
            their_optimiser.set_lr(learning_rate);
            their_optimiser.backward_step(&loss(&their_weight, step));
        }
        assert!(
            our_weight.allclose(&their_weight, 1e-5, 1e-6, false),
            "{our_weight} {their_weight}"
        );
    }

    #[test]
    fn parameter_without_gradient_stays_as_it_is() {
        let variables = VarStore::new(Device::Cpu);
        let (moved, other) = (weight(&variables, "moved"), weight(&variables, "other"));
        AdamW::new(&variables, 0.1).step(&loss(&moved, 1), 0.1);
        assert!(!moved.equal(&weight(&VarStore::new(Device::Cpu), "w")));
        assert!(other.equal(&weight(&VarStore::new(Device::Cpu), "w")));
    }
}
