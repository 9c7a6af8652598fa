//! oneDNN through libtorch's fused operators, in f32 or bf16: bias, addition and ReLU cost no pass of their own over the
//! map, and weights are packed once.

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

/// Batch for which weights are packed. The layout that oneDNN wants is the same from 2 to 32 (ResNet34, AVX2).
pub(super) const USUAL_BATCH: i64 = 8;
/// A single picture is sometimes better off with another layout. Weights in the wrong one are laid out anew at every pass,
/// which takes several times as long as the convolution itself, so the difference cannot be missed.
const ALONE: i64 = 1;
const CLEARLY_FASTER: f64 = 0.7;
const TRIALS: usize = 1;

#[derive(Debug)]
pub(super) struct OneDnn {
    kind: Kind,
    /// Whether single pictures want a layout of their own: most shapes come several times.
    alone_differs: RefCell<HashMap<Shape, bool>>,
}

/// Of weight, side of input, stride.
type Shape = ([usize; 4], usize, usize);

#[derive(Debug)]
struct Fused {
    packed: Tensor,
    /// For single pictures, where that differs.
    packed_alone: Option<Tensor>,
    bias: Tensor,
    geometry: Geometry,
}

impl OneDnn {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, alone_differs: RefCell::default() }
    }

    fn packed_alone(
        &self,
        folded: &FoldedConvolution,
        input_side: usize,
        usual: &Fused,
        pack: &dyn Fn(i64) -> Result<Tensor, TchError>,
    ) -> Result<Option<Tensor>, TchError> {
        let key = (folded.plan.weight_shape(), input_side, folded.plan.stride);
        if self.alone_differs.borrow().get(&key) == Some(&false) {
            return Ok(None);
        }
        let alone = pack(ALONE)?;
        if !self.alone_differs.borrow().contains_key(&key) {
            let [_, channels, side, _] = input_shape(folded, ALONE, input_side);
            let input = Tensor::f_rand([1, side, side, channels], (self.kind, tch::Device::Cpu))?;
            let input = input.f_permute([0, 3, 1, 2])?;
            let [with_alone, with_usual] = [&alone, &usual.packed]
                .map(|packed| fastest(&input, packed, &usual.bias, usual.geometry));
            let differs = with_alone? < with_usual?.mul_f64(CLEARLY_FASTER);
            self.alone_differs.borrow_mut().insert(key, differs);
        }
        Ok(self.alone_differs.borrow()[&key].then_some(alone))
    }
}

/// The shorter of two passes; the first also compiles.
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
        let is_alone = x.size().first() == Some(&ALONE);
        self.packed_alone.as_ref().filter(|_| is_alone).unwrap_or(&self.packed)
    }
}

pub(super) fn geometry(folded: &FoldedConvolution) -> Geometry {
    Geometry { stride: folded.plan.stride as i64, padding: folded.plan.side as i64 / 2 }
}

/// `[N, channels, height, width]` of what a convolution reads.
pub(super) fn input_shape(folded: &FoldedConvolution, batch: i64, input_side: usize) -> [i64; 4] {
    [batch, folded.plan.inputs as i64, input_side as i64, input_side as i64]
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
        let mut fused = Fused { packed: pack(USUAL_BATCH)?, packed_alone: None, bias, geometry };
        fused.packed_alone = self.packed_alone(folded, input_side, &fused, &pack)?;
        Ok(Box::new(fused))
    }

    fn of_floats(&self, map: Tensor) -> Result<Tensor, TchError> {
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
