//! The base: a pretrained convolutional network without its classifier. Frozen: nothing ever writes to it.
//!
//! A base file goes `checkpoint` (any torchvision or timm file) -> [`BaseWeights`] (every name, shape and number
//! checked; torchvision's names) -> [`Network`] (`layout` says what it computes, `kernels` how, in which precision and on
//! which device). The serving core knows only the [`Base`] trait.

mod activation_ranges;
mod architecture;
mod branches;
pub mod checkpoint;
mod compressed;
mod cuda;
mod device;
pub mod fetch;
mod folding;
mod foreign;
mod kernels;
mod layout;
mod network;
mod pooling;
mod precision;
mod seeded;
mod trainable;
mod weights;

pub use activation_ranges::{ActivationRanges, PercentileError, Range, calibrate};
pub use architecture::{Architecture, UnknownArchitecture};
pub use branches::{BranchError, BranchRows, BranchedFeatures, Split};
pub use compressed::CompressedWeights;
pub use device::{Device, DeviceError, set_cpu_threads};
pub use network::{BuildError, Network};
pub use precision::{Precision, PrecisionChoice, PrecisionError};
pub use seeded::{BatchNormStatistics, SeededStream};
pub use trainable::TrainableBranch;
pub use weights::{BaseWeights, WeightsError};

use crate::{
    branch::{Branch, BranchId, BranchWeights},
    features::{BaseIdentity, FeatureSet, FeatureWidths},
    image::PreparedImage,
};

/// What a forward pass should bring back beside `gap`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    pub pyramid: bool,
    /// The last map before pooling, 512x7x7 for a 224x224 image.
    pub map: bool,
}

impl Wanted {
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

/// A forward pass that was begun.
#[derive(Debug)]
pub enum Begun {
    /// There was nothing to wait for.
    Done(BranchedFeatures),
    /// On this lane of the device.
    Running(usize),
}

/// A frozen network on a device. One thread owns it.
pub trait Base: Send {
    fn identity(&self) -> &BaseIdentity;

    fn widths(&self) -> FeatureWidths;

    /// The arithmetic by name, e.g. `fp32`: features of two arithmetics differ a little, those of one do not.
    fn arithmetic(&self) -> &str;

    /// One forward pass. All images have the same side, which is at least 32; there is at least one.
    ///
    /// # Errors
    /// [`BaseError`] if the device fails; the base can be asked again.
    fn forward(&mut self, images: &[&PreparedImage], wanted: Wanted) -> Result<FeatureBatch, BaseError>;

    /// One forward pass of the trunk, and of each branch for its own images.
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and for a branch that is not loaded.
    fn forward_branches(
        &mut self,
        images: &[&PreparedImage],
        split: Split<'_>,
    ) -> Result<BranchedFeatures, BaseError> {
        if !split.branches.is_empty() {
            return Err(BranchError::NotHere.into());
        }
        Ok(BranchedFeatures { own: self.forward(images, split.wanted)?, branches: Vec::new() })
    }

    /// Begins such a pass. One that is [`Begun::Running`] must be [finished](Self::finish); no more than
    /// [`in_flight`](Self::in_flight) may be.
    ///
    /// # Errors
    /// As [`forward_branches`](Self::forward_branches).
    fn begin(&mut self, images: &[&PreparedImage], split: Split<'_>) -> Result<Begun, BaseError> {
        Ok(Begun::Done(self.forward_branches(images, split)?))
    }

    /// Waits for a pass that is running and brings what it found; it may bring more than was wanted.
    ///
    /// # Errors
    /// If the device fails, or none runs there.
    fn finish(&mut self, lane: usize) -> Result<BranchedFeatures, BaseError> {
        Err(BaseError::NothingRuns { lane })
    }

    /// Passes that may run at a time. With two, the device goes on to the next while the one before is read and answered.
    fn in_flight(&self) -> usize {
        1
    }

    /// The maps that a branch there would read, `[images, channels, height, width]`.
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and if nothing can branch off there.
    fn trunk_maps(&mut self, _images: &[&PreparedImage], _branch: Branch) -> Result<Vec<f32>, BaseError> {
        Err(BranchError::NotHere.into())
    }

    /// Takes a deep head's layers onto the device and runs them once.
    ///
    /// # Errors
    /// If they are not those of this network, or the device fails.
    fn load_branch(&mut self, _weights: &BranchWeights) -> Result<BranchId, BaseError> {
        Err(BranchError::NotHere.into())
    }

    /// Gives the branch's memory back.
    fn unload_branch(&mut self, _id: BranchId) {}
}

#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    #[error("the images of one batch must have one side, found {first} and {other}")]
    MixedSides { first: u32, other: u32 },
    #[error("no forward pass runs on lane {lane}")]
    NothingRuns { lane: usize },
    #[error(transparent)]
    Branch(#[from] BranchError),
    #[error("the device failed: {detail}")]
    Device { detail: String },
}

impl From<tch::TchError> for BaseError {
    fn from(error: tch::TchError) -> Self {
        Self::Device { detail: error.to_string() }
    }
}
