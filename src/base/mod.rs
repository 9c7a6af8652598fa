//! The base: a pretrained convolutional network without its classifier. Frozen: nothing ever writes to it.
//!
//! A base file goes `checkpoint` (any torchvision or timm file) -> [`BaseWeights`] (every name, shape and number
//! checked; torchvision's names) -> a network that runs (`torch`). The serving core knows only the [`Base`] trait.
//! Nothing in this module computes.

mod activation_ranges;
mod architecture;
mod branch;
pub(crate) mod branch_layers;
pub mod checkpoint;
mod device;
mod features;
pub mod fetch;
mod forward;
mod int8_storage;
pub(crate) mod layers;
mod precision;
mod random_weights;
mod weights;

pub use activation_ranges::{ActivationRanges, Range};
pub use architecture::Architecture;
pub use branch::{BranchError, BranchId, BranchPoint, BranchTensor, BranchWeights, LoadedBranch};
pub use device::{Device, DeviceError, DeviceId};
pub use features::{BaseIdentity, FeatureSet, FeatureWidths};
pub use forward::{BranchRows, FeatureBatch, ForwardOutput, ForwardRequest, Outputs, PassStatus};
pub use int8_storage::Int8Weights;
pub use precision::{Precision, PrecisionChoice, PrecisionError};
pub use random_weights::{BatchNormStatistics, SplitMix64};
pub use weights::{BaseWeights, WeightsError};

use crate::image::PreparedImage;

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
    fn forward(
        &mut self,
        images: &[&PreparedImage],
        outputs: Outputs,
    ) -> Result<FeatureBatch, BaseError>;

    /// One forward pass of the trunk, and of each branch for its own images.
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and for a branch that is not loaded.
    fn forward_branches(
        &mut self,
        images: &[&PreparedImage],
        split: ForwardRequest<'_>,
    ) -> Result<ForwardOutput, BaseError> {
        if !split.branches.is_empty() {
            return Err(BranchError::NotHere.into());
        }
        Ok(ForwardOutput { own: self.forward(images, split.outputs)?, branches: Vec::new() })
    }

    /// Begins such a pass. One that is [`PassStatus::Running`] must be [finished](Self::finish); no more than
    /// [`in_flight`](Self::in_flight) may be.
    ///
    /// # Errors
    /// As [`forward_branches`](Self::forward_branches).
    fn begin(
        &mut self,
        images: &[&PreparedImage],
        split: ForwardRequest<'_>,
    ) -> Result<PassStatus, BaseError> {
        Ok(PassStatus::Done(self.forward_branches(images, split)?))
    }

    /// Waits for a pass that is running and brings what it found; it may bring more than was wanted.
    ///
    /// # Errors
    /// If the device fails, or none runs there.
    fn finish(&mut self, stream: usize) -> Result<ForwardOutput, BaseError> {
        Err(BaseError::NothingRuns { stream })
    }

    /// Passes that may run at a time. With two, the device goes on to the next while the one before is read and answered.
    fn in_flight(&self) -> usize {
        1
    }

    /// The maps that a branch there would read, `[images, channels, height, width]`.
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and if nothing can branch off there.
    fn trunk_maps(
        &mut self,
        _images: &[&PreparedImage],
        _branch: BranchPoint,
    ) -> Result<Vec<f32>, BaseError> {
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
    #[error("no forward pass runs on stream {stream}")]
    NothingRuns { stream: usize },
    #[error(transparent)]
    Branch(#[from] BranchError),
    #[error("the device failed: {detail}")]
    Device { detail: String },
}

/// A program that was built without the cargo feature `torch` cannot run a base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("built without libtorch: build with the default features to run a base here")]
pub struct BuiltWithoutLibtorch;
