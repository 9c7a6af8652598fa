//! Ways to run a convolution: one per device and arithmetic, all with the same results.

mod cudnn;
mod dispatcher;
mod eager;
mod int8;
mod onednn;

use std::fmt::Debug;

use tch::{Kind, TchError, Tensor};

use super::{
    folding::FoldedConvolution,
    pooling::{self, Pooled},
    values::float_values,
};
use crate::{
    base::{ActivationRanges, DeviceId, Precision, PrecisionError, layers::MaxPool},
    image::PreparedImage,
};

pub(super) use cudnn::Cudnn;
pub(super) use dispatcher::has_fused_convolutions;

/// A convolution ready to run.
///
/// A map of `N` images is `[N, channels, height, width]`, channels last in memory.
pub(super) trait Convolution: Send + Debug {
    /// `conv(x) + bias`
    fn linear(&self, x: &Tensor) -> Result<Tensor, TchError>;

    /// `relu(conv(x) + bias)`
    fn relu(&self, x: &Tensor) -> Result<Tensor, TchError>;

    /// `relu(conv(x) + bias + other)`; may overwrite `other`.
    fn add_relu(&self, x: &Tensor, other: Tensor) -> Result<Tensor, TchError>;
}

/// The operators of a network on one device in one precision.
pub(super) trait Kernels: Send + Debug {
    /// As [`Base::arithmetic`](crate::base::Base::arithmetic).
    fn arithmetic(&self) -> String;

    /// Prepares a convolution; `input_side` is that of its input for a picture of 224 pixels.
    fn convolution(
        &self,
        folded: &FoldedConvolution,
        input_side: usize,
    ) -> Result<Box<dyn Convolution>, TchError>;

    /// Converts a map, the output of convolution `_output`, to what [`float_kernels`] read.
    fn branch_input(&self, map: &Tensor, _output: &str) -> Result<Tensor, TchError> {
        Ok(map.shallow_clone())
    }

    /// Converts a map to these kernels' kind and device from f32 in host memory.
    fn map_from_floats(&self, map: Tensor) -> Result<Tensor, TchError> {
        Ok(map)
    }

    /// Returns the network's input, `(pixel / 255 - mean) / std`, for images of the same side.
    fn input(&self, images: &[&PreparedImage]) -> Result<Tensor, TchError>;

    fn max_pool(&self, x: &Tensor, pool: MaxPool) -> Result<Tensor, TchError> {
        let MaxPool { side, stride, padding } = pool;
        x.f_max_pool2d([side; 2], [stride; 2], [padding; 2], [1, 1], false)
    }

    /// Pools a map that is the output of convolution `_output`.
    fn pooled(&self, map: &Tensor, _output: &str) -> Result<Pooled, TchError> {
        let (values, pixels, channels) = channels_last::<f32>(&map.f_to_kind(Kind::Float)?)?;
        Ok(pooling::pool(&values, pixels, channels))
    }

    /// Returns these kernels if a device can record and replay their passes.
    fn recordable(&self) -> Option<&Cudnn> {
        None
    }

    /// Returns the values of such a map in f32, `[N, channels, height, width]`.
    fn values(&self, map: &Tensor, _output: &str) -> Result<Vec<f32>, TchError> {
        float_values(map)
    }
}

/// Returns the fastest kernels for this precision on this device.
///
/// # Errors
/// [`PrecisionError::NotCalibrated`] for int8 without ranges.
pub(super) fn kernels(
    device: DeviceId,
    precision: Precision,
    ranges: Option<&ActivationRanges>,
) -> Result<Box<dyn Kernels>, PrecisionError> {
    Ok(match (device, precision) {
        (DeviceId::Cpu, Precision::Int8) => {
            Box::new(int8::Int8::new(ranges.cloned().ok_or(PrecisionError::NotCalibrated)?))
        }
        _ => float_kernels(device, precision),
    })
}

/// Returns the kernels for branches off such a network, which need no calibration.
pub(super) fn float_kernels(device: DeviceId, precision: Precision) -> Box<dyn Kernels> {
    match (device, precision) {
        (DeviceId::Cuda(_), Precision::Fp16) => Box::new(Cudnn::new(device.into(), Kind::Half)),
        (DeviceId::Cuda(_), _) => Box::new(Cudnn::new(device.into(), Kind::Float)),
        (_, Precision::Bf16) => Box::new(onednn::OneDnn::new(Kind::BFloat16)),
        _ if has_fused_convolutions() => Box::new(onednn::OneDnn::new(Kind::Float)),
        _ => Box::new(eager::Eager),
    }
}

/// Maps the pixels of all images in order, each channel through its table of 256 entries.
fn through_tables<T: Copy>(images: &[&PreparedImage], table: impl Fn(f32) -> T) -> Vec<T> {
    let mut values = Vec::with_capacity(images.iter().map(|image| image.pixels.len()).sum());
    for image in images {
        let tables: [[T; 256]; 3] = std::array::from_fn(|channel| {
            let (mean, std) = (image.mean[channel], image.std[channel]);
            std::array::from_fn(|value| table((value as f32 / 255.0 - mean) / std))
        });
        for pixel in image.pixels.as_chunks::<3>().0 {
            values.extend((0..3).map(|channel| tables[channel][usize::from(pixel[channel])]));
        }
    }
    values
}

/// Builds `[N, 3, side, side]` in channels-last memory, which is the order of the pixels.
fn stacked(
    values: &[impl tch::kind::Element],
    images: &[&PreparedImage],
) -> Result<Tensor, TchError> {
    let side = images.first().map_or(0, |image| i64::from(image.side));
    Tensor::f_from_slice(values)?
        .f_view([images.len() as i64, side, side, 3])?
        .f_permute([0, 3, 1, 2])
}

/// Returns a folded convolution's weight `[outputs, inputs, side, side]` and bias as tensors.
fn tensors(folded: &FoldedConvolution) -> Result<(Tensor, Tensor), TchError> {
    let shape = folded.spec.weight_shape().map(|side| side as i64);
    Ok((Tensor::f_from_slice(&folded.weight)?.f_view(shape)?, Tensor::f_from_slice(&folded.bias)?))
}

/// Returns a CPU map's values, channels last, and its numbers of pixels and channels.
fn channels_last<T: tch::kind::Element + Default + Clone>(
    map: &Tensor,
) -> Result<(Vec<T>, usize, usize), TchError> {
    let (_, channels, height, width) = map.size4()?;
    let ordered = map.f_permute([0, 2, 3, 1])?.f_contiguous()?;
    let mut values = vec![T::default(); ordered.numel()];
    ordered.f_copy_data(&mut values, ordered.numel())?;
    Ok((values, (height * width) as usize, channels as usize))
}

#[cfg(test)]
pub(super) mod tests;
