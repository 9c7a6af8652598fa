//! libtorch's ordinary operators in f32, for processors and builds without the fused ones.

use tch::{TchError, Tensor};

use super::{Convolution, Kernels, stacked, tensors, through_tables};
use crate::{base::Precision, image::PreparedImage, torch::folding::FoldedConvolution};

#[derive(Debug)]
pub(super) struct Eager;

#[derive(Debug)]
struct EagerConvolution {
    weight: Tensor,
    bias: Tensor,
    stride: i64,
    padding: i64,
}

impl Kernels for Eager {
    fn arithmetic(&self) -> String {
        Precision::Fp32.to_string()
    }

    fn convolution(
        &self,
        folded: &FoldedConvolution,
        _input_side: usize,
    ) -> Result<Box<dyn Convolution>, TchError> {
        let (weight, bias) = tensors(folded)?;
        let (stride, padding) = (folded.spec.stride as i64, folded.spec.side as i64 / 2);
        Ok(Box::new(EagerConvolution { weight, bias, stride, padding }))
    }

    fn input(&self, images: &[&PreparedImage]) -> Result<Tensor, TchError> {
        stacked(&through_tables(images, |value| value), images)?.f_contiguous()
    }
}

impl Convolution for EagerConvolution {
    fn linear(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let (stride, padding) = ([self.stride; 2], [self.padding; 2]);
        x.f_conv2d(&self.weight, Some(&self.bias), stride, padding, [1, 1], 1)
    }

    fn relu(&self, x: &Tensor) -> Result<Tensor, TchError> {
        self.linear(x)?.f_relu_()
    }

    fn add_relu(&self, x: &Tensor, other: Tensor) -> Result<Tensor, TchError> {
        self.linear(x)?.f_add_(&other)?.f_relu_()
    }
}
