//! oneDNN through libtorch's fused operators, in f32 or bf16.
//!
//! Bias, addition and ReLU cost no extra pass over the map, and weights are packed once.

use std::{
    cell::RefCell,
    collections::HashMap,
    time::{Duration, Instant},
};

use tch::{Kind, TchError, Tensor};

use super::{
    Convolution, Kernels,
    dispatcher::{self, Geometry},
    stacked, tensors, through_tables,
};
use crate::{base::Precision, image::PreparedImage, torch::folding::FoldedConvolution};

/// Batch for which weights are packed; oneDNN's layout is the same from 2 to 32 (ResNet34, AVX2).
pub(super) const USUAL_BATCH: i64 = 8;
/// Batch of a single picture, for which oneDNN sometimes needs another layout.
///
/// Weights in the wrong layout are reordered on every pass, which takes several times as long as
/// the convolution itself, so the difference is unmistakable.
const SINGLE: i64 = 1;
const CLEARLY_FASTER: f64 = 0.7;
const TRIALS: usize = 1;

#[derive(Debug)]
pub(super) struct OneDnn {
    kind: Kind,
    /// Whether single pictures need another layout; cached, since most shapes occur several times.
    single_differs: RefCell<HashMap<Shape, bool>>,
}

/// Shape of the weight, side of the input, stride.
type Shape = ([usize; 4], usize, usize);

#[derive(Debug)]
struct Fused {
    packed: Tensor,
    /// For single pictures, if their layout differs.
    packed_single: Option<Tensor>,
    bias: Tensor,
    geometry: Geometry,
}

impl OneDnn {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, single_differs: RefCell::default() }
    }

    fn packed_single(
        &self,
        folded: &FoldedConvolution,
        input_side: usize,
        usual: &Fused,
        pack: &dyn Fn(i64) -> Result<Tensor, TchError>,
    ) -> Result<Option<Tensor>, TchError> {
        let key = (folded.spec.weight_shape(), input_side, folded.spec.stride);
        if self.single_differs.borrow().get(&key) == Some(&false) {
            return Ok(None);
        }
        let single = pack(SINGLE)?;
        if !self.single_differs.borrow().contains_key(&key) {
            let [_, channels, side, _] = input_shape(folded, SINGLE, input_side);
            let input = Tensor::f_rand([1, side, side, channels], (self.kind, tch::Device::Cpu))?;
            let input = input.f_permute([0, 3, 1, 2])?;
            let [with_single, with_usual] = [&single, &usual.packed]
                .map(|packed| fastest(&input, packed, &usual.bias, usual.geometry));
            let differs = with_single? < with_usual?.mul_f64(CLEARLY_FASTER);
            self.single_differs.borrow_mut().insert(key, differs);
        }
        Ok(self.single_differs.borrow()[&key].then_some(single))
    }
}

/// Returns the shorter time of two passes; the first also compiles.
fn fastest(
    input: &Tensor,
    packed: &Tensor,
    bias: &Tensor,
    geometry: Geometry,
) -> Result<Duration, TchError> {
    let mut shortest = Duration::MAX;
    for _ in 0..=TRIALS {
        let begun = Instant::now();
        drop(dispatcher::convolution(input, packed, bias, geometry, true)?);
        shortest = shortest.min(begun.elapsed());
    }
    Ok(shortest)
}

impl Fused {
    fn packed_for(&self, x: &Tensor) -> &Tensor {
        let is_single = x.size().first() == Some(&SINGLE);
        self.packed_single.as_ref().filter(|_| is_single).unwrap_or(&self.packed)
    }
}

pub(super) fn geometry(folded: &FoldedConvolution) -> Geometry {
    Geometry { stride: folded.spec.stride as i64, padding: folded.spec.side as i64 / 2 }
}

/// Returns the shape of a convolution's input, `[N, channels, height, width]`.
pub(super) fn input_shape(folded: &FoldedConvolution, batch: i64, input_side: usize) -> [i64; 4] {
    [batch, folded.spec.inputs as i64, input_side as i64, input_side as i64]
}

impl Kernels for OneDnn {
    fn arithmetic(&self) -> String {
        let precision = if self.kind == Kind::BFloat16 { Precision::Bf16 } else { Precision::Fp32 };
        precision.to_string()
    }

    fn convolution(
        &self,
        folded: &FoldedConvolution,
        input_side: usize,
    ) -> Result<Box<dyn Convolution>, TchError> {
        let geometry = geometry(folded);
        let (weight, bias) = tensors(folded)?;
        let weight = weight.f_to_mkldnn(self.kind)?;
        let pack = |batch: i64| {
            let shape = input_shape(folded, batch, input_side);
            let (padding, stride) = ([geometry.padding; 2], [geometry.stride; 2]);
            weight.f_mkldnn_reorder_conv2d_weight(padding, stride, [1, 1], 1, shape.as_slice())
        };
        let bias = bias.f_to_kind(self.kind)?;
        let mut fused = Fused { packed: pack(USUAL_BATCH)?, packed_single: None, bias, geometry };
        fused.packed_single = self.packed_single(folded, input_side, &fused, &pack)?;
        Ok(Box::new(fused))
    }

    fn map_from_floats(&self, map: Tensor) -> Result<Tensor, TchError> {
        map.f_to_kind(self.kind)
    }

    fn input(&self, images: &[&PreparedImage]) -> Result<Tensor, TchError> {
        stacked(&through_tables(images, |value| value), images)?.f_to_kind(self.kind)
    }
}

impl Convolution for Fused {
    fn linear(&self, x: &Tensor) -> Result<Tensor, TchError> {
        dispatcher::convolution(x, self.packed_for(x), &self.bias, self.geometry, false)
    }

    fn relu(&self, x: &Tensor) -> Result<Tensor, TchError> {
        dispatcher::convolution(x, self.packed_for(x), &self.bias, self.geometry, true)
    }

    fn add_relu(&self, x: &Tensor, other: Tensor) -> Result<Tensor, TchError> {
        dispatcher::convolution_add_relu(x, &other, self.packed_for(x), &self.bias, self.geometry)
    }
}
