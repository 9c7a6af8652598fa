//! What a base is and what it gives for an image: the words that `base` and `head` share.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

use crate::{error::ParseNameError, ids::Digest};

/// Which numbers of a forward pass a head reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeatureSet {
    /// The last map after global average pooling: what torchvision's `fc` reads (He et al. 2016).
    Gap,
    /// The average, then the maximum, of every channel of layer1, layer2, layer3 and layer4, in that order.
    /// Small defects live in the early layers (Head2Toe, Evci et al. 2022).
    Pyramid,
}

impl FeatureSet {
    pub const ALL: [Self; 2] = [Self::Gap, Self::Pyramid];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Gap => "gap",
            Self::Pyramid => "pyramid",
        }
    }
}

impl fmt::Display for FeatureSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for FeatureSet {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|set| set.name() == text)
            .ok_or_else(|| ParseNameError::new("feature set", text, &Self::ALL.map(Self::name)))
    }
}

/// Which base a head was made for: heads of one base mean nothing on another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseIdentity {
    /// `resnet18` or `resnet34`.
    pub architecture: String,
    /// SHA-256 over the base's tensors.
    pub digest: Digest,
}

/// How many numbers each feature set of a base has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeatureWidths {
    pub gap: usize,
    pub pyramid: usize,
}

impl FeatureWidths {
    pub const fn of(&self, set: FeatureSet) -> usize {
        match set {
            FeatureSet::Gap => self.gap,
            FeatureSet::Pyramid => self.pyramid,
        }
    }
}
