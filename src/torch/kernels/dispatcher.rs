//! FFI bindings to `dispatcher.cpp`: oneDNN's fused convolutions, which tch does not offer.
#![expect(unsafe_code, reason = "FFI; each call states its safety condition")]

use std::ptr;

use tch::{TchError, Tensor};
use torch_sys::C_tensor;

use crate::torch::ffi::{Failure, check};

/// Stride and padding, the same in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Geometry {
    pub(super) stride: i64,
    pub(super) padding: i64,
}

/// Scales and zero points of the input, the output and the other map, which is added.
///
/// An 8-bit code stands for `(code - zero_point) * scale`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C)]
pub(super) struct Quantised {
    pub(super) input_scale: f64,
    pub(super) input_zero_point: i64,
    pub(super) output_scale: f64,
    pub(super) output_zero_point: i64,
    pub(super) other_scale: f64,
    pub(super) other_zero_point: i64,
}

/// A convolution's packed weight, its bias, and its scales and zero points (one per channel).
#[derive(Debug)]
pub(super) struct QuantisedWeight {
    pub(super) packed: Tensor,
    pub(super) scales: Tensor,
    pub(super) zero_points: Tensor,
    pub(super) bias: Tensor,
}

unsafe extern "C" {
    fn turret_has_fused_convolutions() -> bool;
    fn turret_convolution(
        input: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        geometry: Geometry,
        relu: bool,
        output: *mut *mut C_tensor,
    ) -> Failure;
    fn turret_convolution_add_relu(
        input: *const C_tensor,
        other: *const C_tensor,
        weight: *const C_tensor,
        bias: *const C_tensor,
        geometry: Geometry,
        output: *mut *mut C_tensor,
    ) -> Failure;
    fn turret_quantised_pack(
        weight: *const C_tensor,
        scales: *const C_tensor,
        quantised: Quantised,
        geometry: Geometry,
        input_shape: *const i64,
        output: *mut *mut C_tensor,
    ) -> Failure;
    fn turret_quantised_convolution(
        input: *const C_tensor,
        weight: *const C_tensor,
        scales: *const C_tensor,
        zero_points: *const C_tensor,
        bias: *const C_tensor,
        quantised: Quantised,
        geometry: Geometry,
        relu: bool,
        output: *mut *mut C_tensor,
    ) -> Failure;
    fn turret_quantised_convolution_add_relu(
        input: *const C_tensor,
        other: *const C_tensor,
        weight: *const C_tensor,
        scales: *const C_tensor,
        zero_points: *const C_tensor,
        bias: *const C_tensor,
        quantised: Quantised,
        geometry: Geometry,
        output: *mut *mut C_tensor,
    ) -> Failure;
}

/// Returns whether this libtorch has all the operators of this module.
pub(in crate::torch) fn has_fused_convolutions() -> bool {
    // SAFETY: takes no arguments and only reads libtorch's table of operators, under its own lock.
    unsafe { turret_has_fused_convolutions() }
}

/// Computes `conv(input) + bias`, with an optional ReLU; `weight` is packed for oneDNN.
pub(super) fn convolution(
    input: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    geometry: Geometry,
    relu: bool,
) -> Result<Tensor, TchError> {
    let mut output = ptr::null_mut();
    // SAFETY: the tensors outlive the call, which only reads them; `output` is written on success.
    let failure = unsafe {
        turret_convolution(
            input.as_ptr(),
            weight.as_ptr(),
            bias.as_ptr(),
            geometry,
            relu,
            &raw mut output,
        )
    };
    result(failure, output)
}

/// Computes `relu(conv(input) + bias + other)` in place of `other`.
///
/// Nothing else may read the memory of `other` afterwards.
pub(super) fn convolution_add_relu(
    input: &Tensor,
    other: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    geometry: Geometry,
) -> Result<Tensor, TchError> {
    let mut output = ptr::null_mut();
    // SAFETY: as in `convolution`; overwriting `other` is aliasing as libtorch's `add_` does it.
    let failure = unsafe {
        turret_convolution_add_relu(
            input.as_ptr(),
            other.as_ptr(),
            weight.as_ptr(),
            bias.as_ptr(),
            geometry,
            &raw mut output,
        )
    };
    result(failure, output)
}

/// Packs an int8 weight `[outputs, inputs, height, width]` for this input shape.
pub(super) fn quantised_pack(
    weight: &Tensor,
    scales: &Tensor,
    quantised: Quantised,
    geometry: Geometry,
    input_shape: [i64; 4],
) -> Result<Tensor, TchError> {
    let mut output = ptr::null_mut();
    // SAFETY: as in `convolution`; the shape has the four sides that are read.
    let failure = unsafe {
        turret_quantised_pack(
            weight.as_ptr(),
            scales.as_ptr(),
            quantised,
            geometry,
            input_shape.as_ptr(),
            &raw mut output,
        )
    };
    result(failure, output)
}

/// Computes as [`convolution`] does, from codes to codes.
pub(super) fn quantised_convolution(
    input: &Tensor,
    weight: &QuantisedWeight,
    quantised: Quantised,
    geometry: Geometry,
    relu: bool,
) -> Result<Tensor, TchError> {
    let mut output = ptr::null_mut();
    // SAFETY: as in `convolution`.
    let failure = unsafe {
        turret_quantised_convolution(
            input.as_ptr(),
            weight.packed.as_ptr(),
            weight.scales.as_ptr(),
            weight.zero_points.as_ptr(),
            weight.bias.as_ptr(),
            quantised,
            geometry,
            relu,
            &raw mut output,
        )
    };
    result(failure, output)
}

/// Computes as [`convolution_add_relu`] does, from codes to codes.
pub(super) fn quantised_convolution_add_relu(
    input: &Tensor,
    other: &Tensor,
    weight: &QuantisedWeight,
    quantised: Quantised,
    geometry: Geometry,
) -> Result<Tensor, TchError> {
    let mut output = ptr::null_mut();
    // SAFETY: as in `convolution_add_relu`.
    let failure = unsafe {
        turret_quantised_convolution_add_relu(
            input.as_ptr(),
            other.as_ptr(),
            weight.packed.as_ptr(),
            weight.scales.as_ptr(),
            weight.zero_points.as_ptr(),
            weight.bias.as_ptr(),
            quantised,
            geometry,
            &raw mut output,
        )
    };
    result(failure, output)
}

fn result(failure: Failure, output: *mut C_tensor) -> Result<Tensor, TchError> {
    // SAFETY: every caller passes on what a function of `dispatcher.cpp` has just returned; on
    // success `output` is a tensor of its own on the heap, which tch frees like those it makes.
    unsafe { check(failure).map(|()| Tensor::from_ptr(output)) }
}
