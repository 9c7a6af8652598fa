//! Copies tensors into host memory.

use tch::{Kind, TchError, Tensor};

/// Returns a tensor's values from any device and kind; a map's as `[N, channels, height, width]`.
pub(super) fn float_values(map: &Tensor) -> Result<Vec<f32>, TchError> {
    let map = map.f_to_device(tch::Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?;
    let mut values = vec![0.0; map.numel()];
    map.f_copy_data(&mut values, map.numel())?;
    Ok(values)
}
