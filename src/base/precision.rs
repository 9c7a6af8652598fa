//! The arithmetic of a forward pass, and where it can run.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::kernels;

/// In what the convolutions compute; features are always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    Fp32,
    /// On processors with AVX512-BF16 or AMX.
    Bf16,
    /// On CUDA devices.
    Fp16,
    /// On processors; needs the activation ranges that `turret base calibrate` measures.
    Int8,
}

/// `auto`, or a precision by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PrecisionChoice(pub Option<Precision>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrecisionError {
    #[error("{text:?} is not a precision: auto, fp32, bf16, fp16 or int8 is wanted")]
    Unknown { text: String },
    #[error("{precision} needs {needs}; use --precision auto")]
    NotHere { precision: Precision, needs: &'static str },
    #[error(
        "int8 needs a base with activation ranges; make one with `turret base calibrate BASE --images DIR -o OUT`"
    )]
    NotCalibrated,
}

impl Precision {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fp32 => "fp32",
            Self::Bf16 => "bf16",
            Self::Fp16 => "fp16",
            Self::Int8 => "int8",
        }
    }
}

impl PrecisionChoice {
    /// Decides `auto` for the device: bf16 where the processor computes in it, fp16 on CUDA, else fp32. int8 is never
    /// chosen by itself: its features differ enough to be asked for.
    ///
    /// # Errors
    /// [`PrecisionError::NotHere`] for a precision that the device has not, or only slower than fp32.
    pub(super) fn resolve(self, device: tch::Device) -> Result<Precision, PrecisionError> {
        let on_cuda = matches!(device, tch::Device::Cuda(_));
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
            Some(Precision::Bf16) => not_here(Precision::Bf16, "a processor with AVX512-BF16 or AMX"),
            Some(Precision::Int8) if kernels::has_fused_convolutions() => Ok(Precision::Int8),
            Some(Precision::Int8) => not_here(Precision::Int8, "a libtorch with oneDNN"),
        }
    }
}

/// Whether the processor multiplies bf16 natively: elsewhere it is slower than fp32.
fn has_fast_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    let native = std::is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    let native = false;
    native && kernels::has_fused_convolutions()
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for PrecisionChoice {
    type Err = PrecisionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Precision::Fp32, Precision::Bf16, Precision::Fp16, Precision::Int8];
        match all.into_iter().find(|precision| precision.name() == text) {
            None if text == "auto" => Ok(Self(None)),
            None => Err(PrecisionError::Unknown { text: text.to_owned() }),
            precision => Ok(Self(precision)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_names_of_all_precisions_and_refuses_the_rest() {
        assert_eq!("auto".parse(), Ok(PrecisionChoice(None)));
        assert_eq!("int8".parse(), Ok(PrecisionChoice(Some(Precision::Int8))));
        assert!("fp64".parse::<PrecisionChoice>().is_err());
    }

    #[test]
    fn a_precision_that_the_device_has_not_is_refused_by_name() {
        let resolve = |precision, device| PrecisionChoice(Some(precision)).resolve(device);
        assert!(matches!(resolve(Precision::Fp16, tch::Device::Cpu), Err(PrecisionError::NotHere { .. })));
        assert!(matches!(
            resolve(Precision::Int8, tch::Device::Cuda(0)),
            Err(PrecisionError::NotHere { .. })
        ));
        assert_eq!(resolve(Precision::Fp32, tch::Device::Cuda(0)), Ok(Precision::Fp32));
        assert_eq!(PrecisionChoice(None).resolve(tch::Device::Cuda(0)), Ok(Precision::Fp16));
    }
}
