//! The request for a forward pass, and its output.

use super::{BranchId, FeatureSet, FeatureWidths};

/// What a forward pass returns besides `gap`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outputs {
    pub pyramid: bool,
    /// The last map before global pooling, 512x7x7 for a 224x224 image.
    pub map: bool,
}

impl Outputs {
    pub fn for_sets(sets: impl IntoIterator<Item = FeatureSet>) -> Self {
        let pyramid = sets.into_iter().any(|set| matches!(set, FeatureSet::Pyramid));
        Self { pyramid, map: false }
    }
}

/// The features of a batch in host memory, one row per image.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FeatureBatch {
    /// `[images, widths.gap]`
    pub gap: Vec<f32>,
    /// `[images, widths.pyramid]`; empty unless requested.
    pub pyramid: Vec<f32>,
    /// `[images, channels, height, width]`; empty unless requested.
    pub map: Vec<f32>,
}

impl FeatureBatch {
    /// Returns one image's features; `None` if the batch lacks the row or the feature set.
    pub fn row(&self, set: FeatureSet, image: usize, widths: FeatureWidths) -> Option<&[f32]> {
        let width = widths.of(set);
        let values = match set {
            FeatureSet::Gap => &self.gap,
            FeatureSet::Pyramid => &self.pyramid,
        };
        values.get(image * width..(image + 1) * width)
    }
}

/// The images of a batch that go through one branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchRows {
    pub branch: BranchId,
    /// Indices into the batch.
    pub images: Vec<usize>,
}

/// A request for one forward pass of a mixed batch.
#[derive(Debug, Clone, Copy)]
pub struct ForwardRequest<'a> {
    pub outputs: Outputs,
    /// Whether to compute the base's own features; if not, the trunk ends at the last branch point.
    pub own: bool,
    pub branches: &'a [BranchRows],
}

/// The features of a mixed batch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ForwardOutput {
    /// The base's own features, a row for every image; empty unless requested.
    pub own: FeatureBatch,
    /// One per [`BranchRows`], with a row for each of its images.
    pub branches: Vec<FeatureBatch>,
}

/// The status of a forward pass that was started.
#[derive(Debug)]
pub enum PassStatus {
    /// Finished, with nothing to wait for.
    Done(ForwardOutput),
    /// Running on this stream of the device.
    Running(usize),
}
