//! What identifies a base and what it returns for an image: types that `base` and `head` share.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

use crate::{error::ParseNameError, ids::Digest};

/// The features of a forward pass that a head reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeatureSet {
    /// The last map after global average pooling; a ResNet's `fc` reads it too (He et al. 2016).
    Gap,
    /// The average, then the maximum, of every channel, stage by stage.
    ///
    /// The stages are layer1 to layer4 of a ResNet, and all five of VGG16.
    /// Small defects show in the early ones (Head2Toe, Evci et al. 2022).
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

/// Identifies the base that a head was trained on; on any other the head is meaningless.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaseIdentity {
    /// `resnet18`, `resnet34` or `vgg16`.
    pub architecture: String,
    /// SHA-256 over the base's tensors.
    pub digest: Digest,
}

/// The number of features in each feature set of a base.
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
