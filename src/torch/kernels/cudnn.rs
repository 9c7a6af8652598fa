//! cuDNN's fused convolutions, channels last, in fp16 or f32.
//!
//! Pixels are copied as bytes and normalised on the device.

use tch::{Kind, TchError, Tensor};

use super::{Convolution, Kernels, tensors};
use crate::{
    base::Precision,
    image::PreparedImage,
    torch::{
        cuda::{Pixels, Reduced},
        folding::FoldedConvolution,
        pooling::Pooled,
    },
};

#[derive(Debug)]
pub(in crate::torch) struct Cudnn {
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
    /// Lets cuDNN try its algorithms on the first pass of each shape, which is the warm-up.
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
        let to_device = |tensor: Tensor| tensor.f_to_device(self.device)?.f_to_kind(self.kind);
        // tch has no memory formats; a permuted copy gives the same memory.
        let weight =
            to_device(weight)?.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])?;
        let (stride, padding) = ([folded.spec.stride as i64; 2], [folded.spec.side as i64 / 2; 2]);
        Ok(Box::new(Fused { weight, bias: to_device(bias)?, stride, padding }))
    }

    fn map_from_floats(&self, map: Tensor) -> Result<Tensor, TchError> {
        map.f_to_device(self.device)?.f_to_kind(self.kind)
    }

    fn input(&self, images: &[&PreparedImage]) -> Result<Tensor, TchError> {
        self.normalised(&Pixels::of(images)?)
    }

    fn pooled(&self, map: &Tensor, _output: &str) -> Result<Pooled, TchError> {
        self.reduced(map, 0)?.read()
    }

    fn recordable(&self) -> Option<&Cudnn> {
        Some(self)
    }
}

impl Cudnn {
    /// Returns the network's input, `[N, 3, side, side]` in channels-last memory.
    ///
    /// Pixels are copied as bytes; from pinned memory the copy overlaps with the device's work.
    pub(in crate::torch) fn normalised(&self, pixels: &Pixels) -> Result<Tensor, TchError> {
        let to_device =
            |tensor: &Tensor| tensor.f_to_device_(self.device, tensor.f_kind()?, true, false);
        let [values, mean, std] = [&pixels.values, &pixels.mean, &pixels.std].map(to_device);
        let values = values?.f_permute([0, 3, 1, 2])?.f_to_kind(Kind::Float)?;
        values.f_div_scalar(255.0)?.f_sub(&mean?)?.f_div(&std?)?.f_to_kind(self.kind)
    }

    /// Returns averages and maxima of a map, left on the device.
    pub(in crate::torch) fn reduced(
        &self,
        map: &Tensor,
        channels: usize,
    ) -> Result<Reduced, TchError> {
        let average = map.f_mean_dim([2i64, 3].as_slice(), false, Kind::Float)?;
        Ok(Reduced { channels, average, maximum: map.f_amax([2, 3], false)? })
    }
}

impl Convolution for Fused {
    fn linear(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_conv2d(&self.weight, Some(&self.bias), self.stride, self.padding, [1, 1], 1)
    }

    fn relu(&self, x: &Tensor) -> Result<Tensor, TchError> {
        x.f_cudnn_convolution_relu(
            &self.weight,
            Some(&self.bias),
            self.stride,
            self.padding,
            [1, 1],
            1,
        )
    }

    fn add_relu(&self, x: &Tensor, other: Tensor) -> Result<Tensor, TchError> {
        let (weight, bias) = (&self.weight, Some(&self.bias));
        x.f_cudnn_convolution_add_relu(
            weight,
            &other,
            1.0,
            bias,
            self.stride,
            self.padding,
            [1, 1],
            1,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torch::{kernels::eager::Eager, pooling};

    fn on_the_cpu() -> Cudnn {
        Cudnn { device: tch::Device::Cpu, kind: Kind::Float }
    }

    /// cuDNN itself is absent; what surrounds it is libtorch's and runs anywhere.
    #[test]
    fn normalises_and_pools_like_eager_kernels() {
        let pixels =
            (0..2 * 32 * 32 * 3).map(|index| (index * 37 % 251) as u8).collect::<Vec<u8>>();
        let images: Vec<PreparedImage> = pixels
            .chunks_exact(32 * 32 * 3)
            .zip([0.4, 0.5])
            .map(|(pixels, mean)| PreparedImage {
                side: 32,
                pixels: pixels.to_vec().into(),
                mean: [mean, 0.45, 0.4],
                std: [0.2, 0.25, mean],
            })
            .collect();
        let images: Vec<&PreparedImage> = images.iter().collect();
        let (ours, eager) = (on_the_cpu().input(&images).unwrap(), Eager.input(&images).unwrap());
        assert_eq!(ours.size(), eager.size());
        assert!((&ours - &eager).abs().max().double_value(&[]) < 1e-5);

        let pooled = on_the_cpu().pooled(&ours, "").unwrap();
        let values =
            Vec::<f32>::try_from(eager.permute([0, 2, 3, 1]).contiguous().view(-1)).unwrap();
        let expected = pooling::pool(&values, 32 * 32, 3);
        assert_eq!(pooled.maximum.len(), expected.maximum.len());
        let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-5;
        assert!(pooled.average.iter().zip(&expected.average).all(near));
        assert!(pooled.maximum.iter().zip(&expected.maximum).all(near));
    }
}
