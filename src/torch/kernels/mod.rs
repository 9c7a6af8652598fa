//! Ways to run a convolution: one for each kind of device and arithmetic, all with the same answers.

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

/// A convolution ready to run. A map of `N` images is `[N, channels, height, width]`, in memory channels last.
pub(super) trait Convolution: Send + Debug {
    /// `conv(x) + bias`
    fn linear(&self, x: &Tensor) -> Result<Tensor, TchError>;

    /// `relu(conv(x) + bias)`
    fn relu(&self, x: &Tensor) -> Result<Tensor, TchError>;

    /// `relu(conv(x) + bias + other)`; may write over `other`.
    fn add_relu(&self, x: &Tensor, other: Tensor) -> Result<Tensor, TchError>;
}

/// What a network is made of on one device in one precision.
pub(super) trait Kernels: Send + Debug {
    /// As [`Base::arithmetic`](crate::base::Base::arithmetic).
    fn arithmetic(&self) -> String;

    /// `input_side` is the side of the map that it reads when the picture has 224 pixels.
    fn convolution(
        &self,
        folded: &FoldedConvolution,
        input_side: usize,
    ) -> Result<Box<dyn Convolution>, TchError>;

    /// A map that is the result of the convolution called `_output`, as [`float_kernels`] read it.
    fn branch_input(&self, map: &Tensor, _output: &str) -> Result<Tensor, TchError> {
        Ok(map.shallow_clone())
    }

    /// Such a map from one in f32 in ordinary memory.
    fn of_floats(&self, map: Tensor) -> Result<Tensor, TchError> {
        Ok(map)
    }

    /// The network's input: `(pixel / 255 - mean) / std`, one side for all.
    fn input(&self, images: &[&PreparedImage]) -> Result<Tensor, TchError>;

    fn max_pool(&self, x: &Tensor, pool: MaxPool) -> Result<Tensor, TchError> {
        let MaxPool { side, stride, padding } = pool;
        x.f_max_pool2d([side; 2], [stride; 2], [padding; 2], [1, 1], false)
    }

    /// Averages and maxima of a map that is the result of the convolution called `_output`.
    fn pooled(&self, map: &Tensor, _output: &str) -> Result<Pooled, TchError> {
        let (values, pixels, channels) = channels_last::<f32>(&map.f_to_kind(Kind::Float)?)?;
        Ok(pooling::pool(&values, pixels, channels))
    }

    /// Those whose passes a device can record and replay.
    fn recordable(&self) -> Option<&Cudnn> {
        None
    }

    /// The values of a map as [`pooled`](Self::pooled) knows it, `[N, channels, height, width]`.
    fn values(&self, map: &Tensor, _output: &str) -> Result<Vec<f32>, TchError> {
        float_values(map)
    }
}

/// The fastest kernels of this precision on this device.
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

/// The kernels of what continues such a network in numbers that need no calibration.
pub(super) fn float_kernels(device: DeviceId, precision: Precision) -> Box<dyn Kernels> {
    match (device, precision) {
        (DeviceId::Cuda(_), Precision::Fp16) => Box::new(Cudnn::new(device.into(), Kind::Half)),
        (DeviceId::Cuda(_), _) => Box::new(Cudnn::new(device.into(), Kind::Float)),
        (_, Precision::Bf16) => Box::new(onednn::OneDnn::new(Kind::BFloat16)),
        _ if has_fused_convolutions() => Box::new(onednn::OneDnn::new(Kind::Float)),
        _ => Box::new(plain::Eager),
    }
}

/// Writes the pixels of all images one after the other, each channel through its table of 256 entries.
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

/// `[N, 3, side, side]` in channels-last memory, from pixels in the order they have anyway.
fn stacked(
    values: &[impl tch::kind::Element],
    images: &[&PreparedImage],
) -> Result<Tensor, TchError> {
    let side = images.first().map_or(0, |image| i64::from(image.side));
    Tensor::f_from_slice(values)?
        .f_view([images.len() as i64, side, side, 3])?
        .f_permute([0, 3, 1, 2])
}

/// A folded convolution's numbers as tensors: weight `[outputs, inputs, side, side]` and bias.
fn tensors(folded: &FoldedConvolution) -> Result<(Tensor, Tensor), TchError> {
    let shape = folded.plan.weight_shape().map(|side| side as i64);
    Ok((Tensor::f_from_slice(&folded.weight)?.f_view(shape)?, Tensor::f_from_slice(&folded.bias)?))
}

/// The values of a CPU map, pixel by pixel, channels together, and its numbers of pixels and channels.
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
