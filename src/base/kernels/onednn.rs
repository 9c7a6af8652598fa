//! oneDNN through libtorch's fused operators, in f32 or bf16: bias, addition and ReLU cost no pass of their own over the
//! map, and weights are packed once.

use tch::{Kind, TchError, Tensor};

use super::{
    Convolution, Kernels,
    dispatcher::{self, Geometry},
    float_max_pool, float_pooled, float_values, stacked, tensors, through_tables,
};
use crate::{
    base::{Precision, folding::FoldedConvolution, layout::MaxPool, pooling::Pooled},
    image::PreparedImage,
};

/// Batch for which weights are packed. The layout that oneDNN wants hardly depends on it: measured within noise for 1, 8
/// and 32, and a copy for each would cost 85 MB.
const PACKED_FOR_BATCH: i64 = 8;

#[derive(Debug)]
pub(super) struct OneDnn {
    pub(super) kind: Kind,
}

#[derive(Debug)]
struct Fused {
    packed: Tensor,
    bias: Tensor,
    geometry: Geometry,
}

pub(super) fn geometry(folded: &FoldedConvolution) -> Geometry {
    Geometry { stride: folded.plan.stride as i64, padding: folded.plan.side as i64 / 2 }
}

/// `[N, channels, height, width]` of what a convolution reads.
pub(super) fn input_shape(folded: &FoldedConvolution, input_side: usize) -> [i64; 4] {
    [PACKED_FOR_BATCH, folded.plan.inputs as i64, input_side as i64, input_side as i64]
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
        let packed = weight.f_to_mkldnn(self.kind)?.f_mkldnn_reorder_conv2d_weight(
            [geometry.padding; 2],
            [geometry.stride; 2],
            [1, 1],
            1,
            input_shape(folded, input_side).as_slice(),
        )?;
        Ok(Box::new(Fused { packed, bias: bias.f_to_kind(self.kind)?, geometry }))
    }

    fn input(&self, images: &[&PreparedImage]) -> Result<Tensor, TchError> {
        stacked(&through_tables(images, |value| value), images)?.f_to_kind(self.kind)
    }

    fn max_pool(&self, x: &Tensor, pool: MaxPool) -> Result<Tensor, TchError> {
        float_max_pool(x, pool)
    }

    fn pooled(&self, map: &Tensor, _output: &str) -> Result<Pooled, TchError> {
        float_pooled(map)
    }

    fn values(&self, map: &Tensor, _output: &str) -> Result<Vec<f32>, TchError> {
        float_values(map)
    }
}

impl Convolution for Fused {
    fn linear(&self, x: &Tensor) -> Result<Tensor, TchError> {
        dispatcher::convolution(x, &self.packed, &self.bias, self.geometry, false)
    }

    fn relu(&self, x: &Tensor) -> Result<Tensor, TchError> {
        dispatcher::convolution(x, &self.packed, &self.bias, self.geometry, true)
    }

    fn add_relu(&self, x: &Tensor, other: Tensor) -> Result<Tensor, TchError> {
        dispatcher::convolution_add_relu(x, &other, &self.packed, &self.bias, self.geometry)
    }
}
