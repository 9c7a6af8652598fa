//! AdamW whose state can be kept (Loshchilov and Hutter, "Decoupled weight decay regularization", 2019); the optimisers
//! of tch hide theirs.

use tch::{Tensor, nn::VarStore, no_grad_guard};

const MEAN_DECAY: f64 = 0.9;
const SQUARE_DECAY: f64 = 0.999;
const EPSILON: f64 = 1e-8;

#[derive(Debug)]
pub(crate) struct AdamW {
    weight_decay: f64,
    slots: Vec<Slot>,
}

/// A parameter and what is remembered of its gradients.
#[derive(Debug)]
struct Slot {
    name: String,
    parameter: Tensor,
    mean: Tensor,
    square: Tensor,
    /// One number: parameters that join late have made fewer steps than the others.
    steps: Tensor,
}

impl AdamW {
    /// For all variables that want gradients.
    pub(crate) fn new(variables: &VarStore, weight_decay: f64) -> Self {
        let _guard = no_grad_guard();
        let trainable =
            variables.variables().into_iter().filter(|(_, variable)| variable.requires_grad());
        let mut slots: Vec<Slot> = trainable
            .map(|(name, parameter)| Slot {
                name,
                mean: parameter.zeros_like(),
                square: parameter.zeros_like(),
                steps: Tensor::from(0i64),
                parameter,
            })
            .collect();
        slots.sort_by(|one, other| one.name.cmp(&other.name));
        Self { weight_decay, slots }
    }

    /// One step down the gradients of `loss`; a parameter that has no part in it stays as it is.
    pub(crate) fn step(&mut self, loss: &Tensor, learning_rate: f64) {
        let parameters: Vec<&Tensor> = self.slots.iter().map(|slot| &slot.parameter).collect();
        let gradients = Tensor::run_backward(&[loss], &parameters, false, false);
        let _guard = no_grad_guard();
        for (slot, gradient) in self.slots.iter_mut().zip(&gradients) {
            if gradient.defined() {
                // Of a convolution it comes channels last; in one order with the rest the steps are faster.
                slot.step(&gradient.contiguous(), learning_rate, self.weight_decay);
            }
        }
    }

    /// What the next step depends on besides the parameters. The tensors are the optimiser's own: to copy into them is to
    /// bring back an earlier state.
    pub(crate) fn state(&self) -> Vec<(String, Tensor)> {
        let of_slot = |slot: &Slot| {
            [("mean", &slot.mean), ("square", &slot.square), ("steps", &slot.steps)].map(
                |(part, tensor)| (format!("adamw.{part}.{}", slot.name), tensor.shallow_clone()),
            )
        };
        self.slots.iter().flat_map(of_slot).collect()
    }
}

impl Slot {
    /// Algorithm 2 of the paper, its two corrections of the bias towards 0 taken out of the tensors.
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
    fn steps_as_the_optimiser_of_libtorch_does() {
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
    fn leaves_a_parameter_that_had_no_part_in_the_loss_as_it_is() {
        let variables = VarStore::new(Device::Cpu);
        let (moved, other) = (weight(&variables, "moved"), weight(&variables, "other"));
        AdamW::new(&variables, 0.1).step(&loss(&moved, 1), 0.1);
        assert!(!moved.equal(&weight(&VarStore::new(Device::Cpu), "w")));
        assert!(other.equal(&weight(&VarStore::new(Device::Cpu), "w")));
    }
}
