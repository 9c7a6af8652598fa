//! Where a deep head leaves the shared trunk, and its private layers.

use std::{collections::BTreeMap, fmt, str::FromStr};

use super::Architecture;
use crate::error::ParseNameError;

/// The layer whose blocks deep heads may copy: the last of a ResNet, under torchvision's name.
const LAYER: &str = "layer4";

/// The first block of `layer4` of which a deep head has a private copy.
///
/// `layer4` stands for all blocks, `layer4.2` for the third and later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BranchPoint {
    pub first_block: usize,
}

impl fmt::Display for BranchPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first_block {
            0 => f.write_str(LAYER),
            block => write!(f, "{LAYER}.{block}"),
        }
    }
}

impl FromStr for BranchPoint {
    type Err = ParseNameError;

    /// Accepts only what [`Display`](fmt::Display) writes.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let block = text.strip_prefix(LAYER).and_then(|rest| match rest.strip_prefix('.') {
            None if rest.is_empty() => Some(0),
            None => None,
            Some(digits) => digits.parse().ok(),
        });
        block
            .map(|first_block| Self { first_block })
            .filter(|branch| branch.to_string() == text)
            .ok_or_else(|| {
                let expected = format!("{LAYER:?} or one of its blocks, such as \"{LAYER}.2\"");
                ParseNameError::expecting("branch point", text, expected)
            })
    }
}

/// The private layers of a deep head: every convolution and BatchNorm under torchvision's name.
#[derive(Debug, Clone, PartialEq)]
pub struct BranchWeights {
    pub branch: BranchPoint,
    pub tensors: BTreeMap<String, BranchTensor>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct BranchTensor {
    pub shape: Vec<usize>,
    /// In row-major order.
    pub values: Vec<f32>,
}

impl BranchWeights {
    /// Returns the size of its values in f32.
    pub fn bytes(&self) -> u64 {
        self.tensors.values().map(|tensor| 4 * tensor.values.len() as u64).sum()
    }
}

/// Identifies a branch among those on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BranchId(pub u64);

/// A branch on a device, released when this is dropped.
pub struct LoadedBranch {
    pub branch: BranchPoint,
    pub id: BranchId,
    release: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl LoadedBranch {
    /// Takes `release`, which is called once, on drop.
    pub fn new(
        branch: BranchPoint,
        id: BranchId,
        release: impl FnOnce() + Send + Sync + 'static,
    ) -> Self {
        Self { branch, id, release: Some(Box::new(release)) }
    }
}

impl Drop for LoadedBranch {
    fn drop(&mut self) {
        if let Some(release) = self.release.take() {
            release();
        }
    }
}

impl fmt::Debug for LoadedBranch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadedBranch").field("branch", &self.branch).field("id", &self.id).finish()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BranchError {
    #[error("{architecture} has no branch point {branch}, expected one of {}", .known.join(", "))]
    NoSuchBranchPoint { architecture: Architecture, branch: BranchPoint, known: Vec<String> },
    #[error(
        "{architecture} has no blocks for a deep head to copy; \
         use a ResNet, or strategy feature-extraction"
    )]
    NoBlocks { architecture: Architecture },
    #[error("its private layers lack tensor {name}")]
    Missing { name: String },
    #[error("tensor {name} belongs to none of its private layers")]
    Unexpected { name: String },
    #[error("tensor {name} of its private layers has shape {found:?}, expected {expected:?}")]
    Shape { name: String, expected: Vec<usize>, found: Vec<usize> },
    #[error(
        "deep heads cannot run on this base; \
         with --server, pass the base file with --base instead"
    )]
    NotHere,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branch_point_has_exactly_one_name() {
        for (text, first_block) in [("layer4", 0), ("layer4.1", 1), ("layer4.2", 2)] {
            assert_eq!(text.parse(), Ok(BranchPoint { first_block }));
            assert_eq!(BranchPoint { first_block }.to_string(), text);
        }
        for text in [
            "",
            "layer3",
            "layer4.",
            "layer4.0",
            "layer4.02",
            "layer42",
            "layer4.2.conv1",
            "layer4.-1",
        ] {
            let error = text.parse::<BranchPoint>().unwrap_err();
            assert_eq!(error.text, text);
        }
    }
}
