//! Reads tensors into ordinary memory.

use tch::{Kind, TchError, Tensor};

/// Every number of a tensor of any device and kind, a map's in the order `[N, channels, height, width]`.
pub(super) fn float_values(map: &Tensor) -> Result<Vec<f32>, TchError> {
    let map = map.f_to_device(tch::Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?;
    let mut values = vec![0.0; map.numel()];
    map.f_copy_data(&mut values, map.numel())?;
    Ok(values)
}
