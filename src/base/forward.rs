//! What a forward pass is asked for and what it brings back.

use super::{BranchId, FeatureSet, FeatureWidths};

/// What a forward pass should bring back beside `gap`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outputs {
    pub pyramid: bool,
    /// The last map before pooling, 512x7x7 for a 224x224 image.
    pub map: bool,
}

impl Outputs {
    pub fn for_sets(sets: impl IntoIterator<Item = FeatureSet>) -> Self {
        let pyramid = sets.into_iter().any(|set| matches!(set, FeatureSet::Pyramid));
        Self { pyramid, map: false }
    }
}

/// The features of a batch, one row an image, in ordinary memory.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FeatureBatch {
    /// `[images, widths.gap]`
    pub gap: Vec<f32>,
    /// `[images, widths.pyramid]`; empty unless wanted.
    pub pyramid: Vec<f32>,
    /// `[images, channels, height, width]`; empty unless wanted.
    pub map: Vec<f32>,
}

impl FeatureBatch {
    /// One image's features; `None` if the batch has no such row or the set was not wanted.
    pub fn row(&self, set: FeatureSet, image: usize, widths: FeatureWidths) -> Option<&[f32]> {
        let width = widths.of(set);
        let values = match set {
            FeatureSet::Gap => &self.gap,
            FeatureSet::Pyramid => &self.pyramid,
        };
        values.get(image * width..(image + 1) * width)
    }
}

/// Images of a batch that go through a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchRows {
    pub branch: BranchId,
    /// Positions in the batch.
    pub images: Vec<usize>,
}

/// What a forward pass of a mixed batch is to bring.
#[derive(Debug, Clone, Copy)]
pub struct ForwardRequest<'a> {
    pub outputs: Outputs,
    /// Whether the base's own features are wanted: without them the trunk ends where the last branch begins.
    pub own: bool,
    pub branches: &'a [BranchRows],
}

/// The features of a mixed batch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ForwardOutput {
    /// Those of the base itself, a row for every image; empty unless wanted.
    pub own: FeatureBatch,
    /// One for each of the [`BranchRows`], a row for each of its images.
    pub branches: Vec<FeatureBatch>,
}

/// A forward pass that was begun.
#[derive(Debug)]
pub enum PassStatus {
    /// There was nothing to wait for.
    Done(ForwardOutput),
    /// On this lane of the device.
    Running(usize),
}
