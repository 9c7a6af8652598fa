//! BatchNorm folded into convolutions.
//!
//! `gamma (W x - mean) / sqrt(var + eps) + beta` is a convolution again.

use crate::base::layers::ConvSpec;

/// The default of torch.nn.BatchNorm2d, which torchvision's ResNets keep.
pub(super) const BATCH_NORM_EPSILON: f64 = 1e-5;

/// A convolution with one weight and one bias.
#[derive(Debug, Clone)]
pub(super) struct FoldedConvolution {
    pub(super) spec: ConvSpec,
    /// `[outputs, inputs, side, side]`
    pub(super) weight: Vec<f32>,
    /// `[outputs]`
    pub(super) bias: Vec<f32>,
}

impl FoldedConvolution {
    /// Folds the tensors that `tensor` returns for torchvision's names.
    pub(super) fn new<'a>(spec: &ConvSpec, tensor: &impl Fn(&str) -> &'a [f32]) -> Self {
        let weight = tensor(&format!("{}.weight", spec.name));
        let Some(norm) = &spec.norm else {
            let bias = tensor(&format!("{}.bias", spec.name)).to_vec();
            return Self { spec: spec.clone(), weight: weight.to_vec(), bias };
        };
        let part = |name: &str| tensor(&format!("{norm}.{name}"));
        let (gamma, beta, mean, var) =
            (part("weight"), part("bias"), part("running_mean"), part("running_var"));
        let filters = weight.chunks_exact(spec.inputs * spec.side * spec.side);
        let mut folded = Vec::with_capacity(weight.len());
        let mut bias = Vec::with_capacity(spec.outputs);
        for ((((filter, gamma), beta), mean), var) in
            filters.zip(gamma).zip(beta).zip(mean).zip(var)
        {
            let scale = f64::from(*gamma) / (f64::from(*var) + BATCH_NORM_EPSILON).sqrt();
            folded.extend(filter.iter().map(|value| (f64::from(*value) * scale) as f32));
            bias.push((f64::from(*beta) - f64::from(*mean) * scale) as f32);
        }
        Self { spec: spec.clone(), weight: folded, bias }
    }
}
