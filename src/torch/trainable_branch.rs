//! The private layers of a deep head in training, with libtorch's gradients.

use std::collections::BTreeMap;

use tch::{TchError, Tensor};

use super::{branches::check, folding::BATCH_NORM_EPSILON};
use crate::base::{
    Architecture, BaseError, BranchPoint, BranchTensor, BranchWeights, layers::Step,
};

/// Convolutions in training, starting from given weights.
///
/// BatchNorm's statistics, scale and shift stay fixed: the trained function is the one served.
#[derive(Debug)]
pub(super) struct TrainableBranch {
    branch: BranchPoint,
    steps: Vec<Step<TrainableConvolution>>,
    /// Every tensor at the start; those of BatchNorm never change.
    start: BTreeMap<String, BranchTensor>,
}

#[derive(Debug)]
struct TrainableConvolution {
    /// Name of the weight among the tensors.
    name: String,
    /// `[outputs, inputs, side, side]`
    weight: Tensor,
    /// BatchNorm's factor for each filter, `[outputs, 1, 1, 1]`.
    scale: Tensor,
    /// What BatchNorm then adds, `[outputs]`.
    shift: Tensor,
    stride: i64,
    padding: i64,
}

impl TrainableBranch {
    /// Starts from these weights.
    ///
    /// # Errors
    /// If the weights do not fit the private layers of this architecture.
    pub(super) fn new(
        architecture: Architecture,
        weights: &BranchWeights,
    ) -> Result<Self, BaseError> {
        check(architecture, weights)?;
        let stage = architecture.branch_stage(weights.branch)?;
        let values =
            |name: &str| weights.tensors.get(name).map_or(&[][..], |tensor| &tensor.values);
        let steps = stage.steps.iter().map(|step| {
            step.try_map(&mut |spec| -> Result<TrainableConvolution, TchError> {
                let name = format!("{}.weight", spec.name);
                let part = |part: &str| {
                    let norm = spec.norm.as_deref().unwrap_or_default();
                    Tensor::f_from_slice(values(&format!("{norm}.{part}")))
                };
                let deviation = part("running_var")?.f_add_scalar(BATCH_NORM_EPSILON)?.f_sqrt()?;
                let scale = part("weight")?.f_div(&deviation)?;
                let shift = part("bias")?.f_sub(&part("running_mean")?.f_mul(&scale)?)?;
                let shape = spec.weight_shape().map(|side| side as i64);
                let weight = Tensor::f_from_slice(values(&name))?.f_view(shape)?;
                Ok(TrainableConvolution {
                    weight: weight.f_set_requires_grad(true)?,
                    name,
                    scale: scale.f_view([-1, 1, 1, 1])?,
                    shift,
                    stride: spec.stride as i64,
                    padding: spec.side as i64 / 2,
                })
            })
        });
        let steps = steps.collect::<Result<Vec<_>, _>>()?;
        Ok(Self { branch: weights.branch, steps, start: weights.tensors.clone() })
    }

    /// Returns average and maximum of each channel of the last map, `[N, channels]` each.
    ///
    /// `maps` come from the trunk, `[N, channels, height, width]`.
    pub(super) fn pooled(&self, maps: &Tensor) -> Result<(Tensor, Tensor), TchError> {
        let mut x = maps.shallow_clone();
        for step in &self.steps {
            x = step.forward(&x)?;
        }
        let pixels = x.f_flatten(2, -1)?;
        Ok((pixels.f_mean_dim(&[-1i64][..], false, None)?, pixels.f_amax([-1i64], false)?))
    }

    /// Returns the trained tensors by name, in a fixed order.
    pub(super) fn parameters(&self) -> Vec<(&str, &Tensor)> {
        let convolutions = self.steps.iter().flat_map(Step::convolutions);
        convolutions.map(|convolution| (convolution.name.as_str(), &convolution.weight)).collect()
    }

    /// Returns the layers as they are now.
    pub(super) fn weights(&self) -> Result<BranchWeights, TchError> {
        let mut tensors = self.start.clone();
        for (name, weight) in self.parameters() {
            if let Some(tensor) = tensors.get_mut(name) {
                weight
                    .f_detach()?
                    .f_contiguous()?
                    .f_copy_data(&mut tensor.values, weight.numel())?;
            }
        }
        Ok(BranchWeights { branch: self.branch, tensors })
    }
}

impl Step<TrainableConvolution> {
    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::Convolution(convolution) => convolution.forward(x)?.f_relu(),
            Self::MaxPool(pool) => {
                x.f_max_pool2d([pool.side; 2], [pool.stride; 2], [pool.padding; 2], [1, 1], false)
            }
            Self::Residual { conv1, conv2, shortcut } => {
                let inner = conv2.forward(&conv1.forward(x)?.f_relu()?)?;
                let other = match shortcut {
                    Some(shortcut) => shortcut.forward(x)?,
                    None => x.shallow_clone(),
                };
                inner.f_add(&other)?.f_relu()
            }
        }
    }
}

impl TrainableConvolution {
    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let weight = self.weight.f_mul(&self.scale)?;
        x.f_conv2d(&weight, Some(&self.shift), [self.stride; 2], [self.padding; 2], [1, 1], 1)
    }
}
