//! cuDNN's fused convolutions, channels last, in fp16 or f32. Pixels travel as bytes and are normalised on the device.

use tch::{Kind, TchError, Tensor};

use super::{Convolution, Kernels, float_values, stacked, tensors};
use crate::{
    base::{Precision, folding::FoldedConvolution, pooling::Pooled},
    image::PreparedImage,
};

#[derive(Debug)]
pub(super) struct Cudnn {
    device: tch::Device,
    kind: Kind,
}

#[derive(Debug)]
struct Fused {
    weight: Tensor,
    bias: Tensor,
    stride: [i64; 2],
    padding: [i64; 2],
}

impl Cudnn {
    /// cuDNN tries its algorithms at the first pass of each shape, which is the warm-up.
    pub(super) fn new(device: tch::Device, kind: Kind) -> Self {
        tch::Cuda::cudnn_set_benchmark(true);
        Self { device, kind }
    }
}

impl Kernels for Cudnn {
    fn arithmetic(&self) -> String {
        let precision = if self.kind == Kind::Half { Precision::Fp16 } else { Precision::Fp32 };
        precision.to_string()
    }

    fn convolution(
        &self,
        folded: &FoldedConvolution,
        _input_side: usize,
    ) -> Result<Box<dyn Convolution>, TchError> {
        let (weight, bias) = tensors(folded)?;
        let there = |tensor: Tensor| tensor.f_to_device(self.device)?.f_to_kind(self.kind);
        // tch offers no memory format: the same memory by way of a permuted copy.
        let weight = there(weight)?.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])?;
        let (stride, padding) = ([folded.plan.stride as i64; 2], [folded.plan.side as i64 / 2; 2]);
        Ok(Box::new(Fused { weight, bias: there(bias)?, stride, padding }))
    }

    fn of_floats(&self, map: Tensor) -> Result<Tensor, TchError> {
        map.f_to_device(self.device)?.f_to_kind(self.kind)
    }

    fn input(&self, images: &[&PreparedImage]) -> Result<Tensor, TchError> {
        let pixels: Vec<u8> = images.iter().flat_map(|image| image.pixels.iter().copied()).collect();
        let of_image = |of: fn(&PreparedImage) -> [f32; 3]| -> Result<Tensor, TchError> {
            let values: Vec<f32> = images.iter().flat_map(|image| of(image)).collect();
            Tensor::f_from_slice(&values)?.f_view([-1, 3, 1, 1])?.f_to_device(self.device)
        };
        let (mean, std) = (of_image(|image| image.mean)?, of_image(|image| image.std)?);
        // From pinned memory the copy needs no staging of the driver's own; libtorch keeps the memory until it is done.
        let pinned = stacked(&pixels, images)?.f_pin_memory(self.device)?;
        let pixels = pinned.f_to_device_(self.device, Kind::Uint8, true, false)?.f_to_kind(Kind::Float)?;
        (pixels / 255.0).f_sub(&mean)?.f_div(&std)?.f_to_kind(self.kind)
    }

    fn pooled(&self, map: &Tensor, _output: &str) -> Result<Pooled, TchError> {
        let average = map.f_mean_dim([2i64, 3].as_slice(), false, Kind::Float)?;
        let maximum = map.f_amax([2, 3], false)?;
        Ok(Pooled { average: float_values(&average)?, maximum: float_values(&maximum)? })
    }
}

impl Convolution for Fused {
    fn linear(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_conv2d(&self.weight, Some(&self.bias), self.stride, self.padding, [1, 1], 1)
    }

    fn relu(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_cudnn_convolution_relu(&self.weight, Some(&self.bias), self.stride, self.padding, [1, 1], 1)
    }

    fn add_relu(&self, x: &Tensor, other: Tensor) -> Result<Tensor, TchError> {
        let (weight, bias) = (&self.weight, Some(&self.bias));
        x.f_cudnn_convolution_add_relu(weight, &other, 1.0, bias, self.stride, self.padding, [1, 1], 1)
    }
}
