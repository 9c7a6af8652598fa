//! Resolves the arithmetic of a forward pass for a device.

use super::kernels;
use crate::base::{DeviceId, Precision, PrecisionChoice, PrecisionError};

impl PrecisionChoice {
    /// Resolves `auto`: fp16 on CUDA, bf16 where the processor computes in it, otherwise fp32.
    ///
    /// `auto` never chooses int8, whose features differ enough that it must be requested.
    ///
    /// # Errors
    /// [`PrecisionError::NotHere`] if the device lacks the precision or runs it slower than fp32.
    pub fn resolve(self, device: DeviceId) -> Result<Precision, PrecisionError> {
        let on_cuda = matches!(device, DeviceId::Cuda(_));
        let not_here = |precision, needs| Err(PrecisionError::NotHere { precision, needs });
        match self.0 {
            None if on_cuda => Ok(Precision::Fp16),
            None if has_fast_bf16() => Ok(Precision::Bf16),
            None | Some(Precision::Fp32) => Ok(Precision::Fp32),
            Some(Precision::Fp16) if on_cuda => Ok(Precision::Fp16),
            Some(Precision::Fp16) => not_here(Precision::Fp16, "a CUDA device"),
            Some(precision @ (Precision::Bf16 | Precision::Int8)) if on_cuda => {
                not_here(precision, "the CPU; a CUDA device computes in fp16 or fp32")
            }
            Some(Precision::Bf16) if has_fast_bf16() => Ok(Precision::Bf16),
            Some(Precision::Bf16) => {
                not_here(Precision::Bf16, "a processor with AVX512-BF16 or AMX")
            }
            Some(Precision::Int8) if kernels::has_fused_convolutions() => Ok(Precision::Int8),
            Some(Precision::Int8) => not_here(Precision::Int8, "a libtorch with oneDNN"),
        }
    }
}

/// Returns whether the processor multiplies bf16 natively; elsewhere it is slower than fp32.
fn has_fast_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    let native = std::is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    let native = false;
    native && kernels::has_fused_convolutions()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolve_rejects_a_precision_the_device_lacks() {
        let resolve = |precision, device| PrecisionChoice(Some(precision)).resolve(device);
        assert!(matches!(
            resolve(Precision::Fp16, DeviceId::Cpu),
            Err(PrecisionError::NotHere { .. })
        ));
        assert!(matches!(
            resolve(Precision::Int8, DeviceId::Cuda(0)),
            Err(PrecisionError::NotHere { .. })
        ));
        assert_eq!(resolve(Precision::Fp32, DeviceId::Cuda(0)), Ok(Precision::Fp32));
        assert_eq!(PrecisionChoice(None).resolve(DeviceId::Cuda(0)), Ok(Precision::Fp16));
    }
}
