//! oneDNN's 8-bit convolutions through libtorch: codes in, codes out.
//!
//! Each map and each filter has one scale (Krishnamoorthi 2018); calibration measures map ranges.

use tch::{Kind, TchError, Tensor};

use super::{
    Convolution, Kernels, channels_last,
    dispatcher::{self, Geometry, Quantised, QuantisedWeight},
    onednn::{USUAL_BATCH, geometry, input_shape},
    stacked, through_tables,
};
use crate::{
    base::{
        ActivationRanges, Range,
        layers::{IMAGE, MaxPool},
    },
    ids::Digest,
    image::PreparedImage,
    torch::{
        folding::FoldedConvolution,
        pooling::{self, Pooled},
    },
};

/// Largest code of a weight; -128 is unused.
const LARGEST_WEIGHT: f32 = 127.0;

#[derive(Debug)]
pub(super) struct Int8 {
    ranges: ActivationRanges,
    /// Largest code of a map.
    largest_code: u8,
}

/// The encoding of a map: a code stands for `(code - zero_point) * scale`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Codes {
    scale: f64,
    zero_point: i64,
}

#[derive(Debug)]
struct QuantisedConvolution {
    weight: QuantisedWeight,
    quantised: Quantised,
    geometry: Geometry,
}

impl Int8 {
    pub(super) fn new(ranges: ActivationRanges) -> Self {
        Self { ranges, largest_code: largest_code() }
    }

    /// Returns the encoding of a map; an error, not a guess, if its range was never measured.
    fn codes(&self, name: &str) -> Result<Codes, TchError> {
        let range = self.ranges.of(name);
        let range =
            range.ok_or_else(|| TchError::Convert(format!("no activation range for {name}")))?;
        Ok(Codes::new(range, self.largest_code))
    }
}

/// Returns the largest code of a map that this processor sums without saturating.
///
/// AVX2 and AVX-512 without VNNI add two products of an unsigned and a signed byte in 16 bits:
/// 2 * 255 * 127 does not fit, 2 * 127 * 127 does.
fn largest_code() -> u8 {
    #[cfg(target_arch = "x86_64")]
    let adds_into_32_bits =
        std::is_x86_feature_detected!("avx512vnni") || std::is_x86_feature_detected!("avxvnni");
    #[cfg(not(target_arch = "x86_64"))]
    let adds_into_32_bits = false;
    if adds_into_32_bits { u8::MAX } else { 127 }
}

/// Returns the first digits of a SHA-256, to tell two calibrations apart.
fn digest(ranges: &ActivationRanges) -> String {
    let line =
        |(name, Range { least, largest }): (&String, &Range)| format!("{name} {least} {largest}\n");
    let lines: String = ranges.ranges.iter().map(line).collect();
    Digest::of(lines.as_bytes()).short()
}

impl Codes {
    /// Fits codes to a range; zero has a code of its own, because maps are padded with it.
    fn new(Range { least, largest }: Range, largest_code: u8) -> Self {
        let (least, largest) = (f64::from(least.min(0.0)), f64::from(largest.max(0.0)));
        let scale = ((largest - least) / f64::from(largest_code)).max(f64::from(f32::MIN_POSITIVE));
        Self { scale, zero_point: (-least / scale).round() as i64 }
    }
}

impl Kernels for Int8 {
    fn arithmetic(&self) -> String {
        format!("int8-{}-{}", self.largest_code, digest(&self.ranges))
    }

    fn convolution(
        &self,
        folded: &FoldedConvolution,
        input_side: usize,
    ) -> Result<Box<dyn Convolution>, TchError> {
        let spec = &folded.spec;
        let (input, output) = (self.codes(&spec.reads)?, self.codes(&spec.name)?);
        // Without an addition, these two are not read.
        let other = spec.adds.as_deref().map_or(Ok(output), |name| self.codes(name))?;
        let quantised = Quantised {
            input_scale: input.scale,
            input_zero_point: input.zero_point,
            output_scale: output.scale,
            output_zero_point: output.zero_point,
            other_scale: other.scale,
            other_zero_point: other.zero_point,
        };
        let (mut codes, mut scales) = (Vec::with_capacity(folded.weight.len()), Vec::new());
        for filter in folded.weight.chunks_exact(spec.inputs * spec.side * spec.side) {
            let largest = filter.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            let scale = (largest / LARGEST_WEIGHT).max(f32::MIN_POSITIVE);
            codes.extend(filter.iter().map(|value| (value / scale).round() as i8));
            scales.push(scale);
        }
        let weight =
            Tensor::f_from_slice(&codes)?.f_view(spec.weight_shape().map(|side| side as i64))?;
        let scales = Tensor::f_from_slice(&scales)?;
        let geometry = geometry(folded);
        let shape = input_shape(folded, USUAL_BATCH, input_side);
        let packed = dispatcher::quantised_pack(&weight, &scales, quantised, geometry, shape)?;
        let zero_points = Tensor::f_zeros([spec.outputs as i64], (Kind::Int64, tch::Device::Cpu))?;
        let bias = Tensor::f_from_slice(&folded.bias)?;
        let weight = QuantisedWeight { packed, scales, zero_points, bias };
        Ok(Box::new(QuantisedConvolution { weight, quantised, geometry }))
    }

    fn branch_input(&self, map: &Tensor, output: &str) -> Result<Tensor, TchError> {
        let Codes { scale, .. } = self.codes(output)?;
        map.f_to_kind(Kind::Float)?.f_mul_scalar_(scale)
    }

    fn input(&self, images: &[&PreparedImage]) -> Result<Tensor, TchError> {
        let Codes { scale, zero_point } = self.codes(IMAGE)?;
        let largest = f64::from(self.largest_code);
        let code =
            |value: f32| (f64::from(value) / scale + zero_point as f64).round().clamp(0.0, largest);
        stacked(&through_tables(images, |value| code(value) as u8), images)
    }

    /// Pools as quantised tensors.
    ///
    /// libtorch's pooling of plain bytes overflows its own index type (2.11), this one does not.
    fn max_pool(&self, x: &Tensor, pool: MaxPool) -> Result<Tensor, TchError> {
        let MaxPool { side, stride, padding } = pool;
        x.f_internal_make_per_tensor_quantized_tensor(1.0, 0)?
            .f_quantized_max_pool2d([side; 2], [stride; 2], [padding; 2], [1, 1], false)?
            .f_int_repr()
    }

    fn pooled(&self, map: &Tensor, output: &str) -> Result<Pooled, TchError> {
        // Features are taken after a ReLU, so zero is code zero.
        let Codes { scale, .. } = self.codes(output)?;
        let (codes, pixels, channels) = channels_last::<u8>(map)?;
        Ok(pooling::pool_codes(&codes, pixels, channels, scale as f32))
    }

    fn values(&self, map: &Tensor, output: &str) -> Result<Vec<f32>, TchError> {
        let Codes { scale, .. } = self.codes(output)?;
        let map = map.f_contiguous()?;
        let mut codes = vec![0u8; map.numel()];
        map.f_copy_data(&mut codes, map.numel())?;
        Ok(codes.into_iter().map(|code| f32::from(code) * scale as f32).collect())
    }
}

impl Convolution for QuantisedConvolution {
    fn linear(&self, x: &Tensor) -> Result<Tensor, TchError> {
        dispatcher::quantised_convolution(x, &self.weight, self.quantised, self.geometry, false)
    }

    fn relu(&self, x: &Tensor) -> Result<Tensor, TchError> {
        dispatcher::quantised_convolution(x, &self.weight, self.quantised, self.geometry, true)
    }

    fn add_relu(&self, x: &Tensor, other: Tensor) -> Result<Tensor, TchError> {
        dispatcher::quantised_convolution_add_relu(
            x,
            &other,
            &self.weight,
            self.quantised,
            self.geometry,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_span_the_range_and_represent_zero() {
        let rectified = Codes::new(Range { least: 0.0, largest: 6.0 }, 255);
        assert_eq!(rectified.zero_point, 0);
        assert!((rectified.scale - 6.0 / 255.0).abs() < 1e-9);
        let signed = Codes::new(Range { least: -2.0, largest: 2.0 }, 127);
        assert_eq!(signed.zero_point, 64);
        let nothing = Codes::new(Range { least: 0.0, largest: 0.0 }, 127);
        assert!(nothing.scale > 0.0, "a channel that is always zero still has a scale");
    }
}
