//! Precision of the convolutions; weights, statistics and losses stay in fp32.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Precision {
    /// bf16 where it is faster: on CUDA and on processors with native bf16
    Auto,
    Fp32,
    Bf16,
}

impl Precision {
    /// Resolves `auto`.
    pub(crate) fn resolve(self, device: Device) -> Self {
        match self {
            Self::Auto if device.is_cuda() || processor_has_bf16() => Self::Bf16,
            Self::Auto => Self::Fp32,
            Self::Fp32 | Self::Bf16 => self,
        }
    }

    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Bf16 => Kind::BFloat16,
            Self::Auto | Self::Fp32 => Kind::Float,
        }
    }
}

/// Tests for AVX512-BF16, which every processor with AMX-BF16 has too.
#[cfg(target_arch = "x86_64")]
fn processor_has_bf16() -> bool {
    std::is_x86_feature_detected!("avx512bf16")
}

#[cfg(not(target_arch = "x86_64"))]
fn processor_has_bf16() -> bool {
    false
}
