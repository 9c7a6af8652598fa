//! The arithmetic of a forward pass, and where it can run.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::error::ParseNameError;

/// The arithmetic of the convolutions; features are always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    Fp32,
    /// For processors with AVX512-BF16 or AMX.
    Bf16,
    /// For CUDA devices.
    Fp16,
    /// For processors; needs the activation ranges that `turret base calibrate` measures.
    Int8,
}

/// `auto`, or a precision by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PrecisionChoice(pub Option<Precision>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrecisionError {
    #[error("{precision} needs {needs}; use --precision auto")]
    NotHere { precision: Precision, needs: &'static str },
    #[error(
        "int8 needs a base with activation ranges; \
         make one with `turret base calibrate BASE --images DIR -o OUT`"
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

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for PrecisionChoice {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Precision::Fp32, Precision::Bf16, Precision::Fp16, Precision::Int8];
        match all.into_iter().find(|precision| precision.name() == text) {
            None if text == "auto" => Ok(Self(None)),
            None => Err(ParseNameError::new(
                "precision",
                text,
                &["auto", "fp32", "bf16", "fp16", "int8"],
            )),
            precision => Ok(Self(precision)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_every_precision_and_rejects_other_names() {
        assert_eq!("auto".parse(), Ok(PrecisionChoice(None)));
        assert_eq!("int8".parse(), Ok(PrecisionChoice(Some(Precision::Int8))));
        assert!("fp64".parse::<PrecisionChoice>().is_err());
    }
}
