//! The base: a pretrained convolutional network without its classifier, frozen.
//!
//! A checkpoint becomes [`BaseWeights`], and those become a network that runs (`torch`).
//! The serving core knows only the [`Base`] trait. This module runs no network itself.
//!
//! - Networks: `architecture` (ResNet18, ResNet34, VGG16), `layers` (what each computes, step by
//!   step), `features` (what it returns: `gap` and `pyramid`).
//! - Weights: [`fetch`] (downloads torchvision's files), [`checkpoint`] (reads torchvision and timm
//!   files), `import` (finds the network in a checkpoint), `weights` (base files, with every name,
//!   shape and value checked), `int8_storage` (base files of a quarter of the size),
//!   `activation_ranges` (what int8 arithmetic needs besides), `random_weights` (weights from a
//!   seed).
//! - Execution, as `torch` implements it: `device`, `precision`, `forward` (request and output of a
//!   forward pass).
//! - Deep heads: `branch` (where a head leaves the trunk), `branch_layers` (its private layers).

mod activation_ranges;
mod architecture;
mod branch;
pub(crate) mod branch_layers;
pub mod checkpoint;
mod device;
mod features;
pub mod fetch;
mod forward;
mod import;
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

/// A frozen network on a device, owned by one thread.
pub trait Base: Send {
    fn identity(&self) -> &BaseIdentity;

    fn widths(&self) -> FeatureWidths;

    /// Returns the name of the arithmetic, e.g. `fp32`.
    ///
    /// Features differ slightly between two arithmetics, never within one.
    fn arithmetic(&self) -> &str;

    /// Runs one forward pass over at least one image; all have the same side, at least 32.
    ///
    /// # Errors
    /// [`BaseError`] if the device fails; the base remains usable.
    fn forward(
        &mut self,
        images: &[&PreparedImage],
        outputs: Outputs,
    ) -> Result<FeatureBatch, BaseError>;

    /// Runs one forward pass of the trunk, and of each branch for its own images.
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and for a branch that is not loaded.
    fn forward_branches(
        &mut self,
        images: &[&PreparedImage],
        request: ForwardRequest<'_>,
    ) -> Result<ForwardOutput, BaseError> {
        if !request.branches.is_empty() {
            return Err(BranchError::NotHere.into());
        }
        Ok(ForwardOutput { own: self.forward(images, request.outputs)?, branches: Vec::new() })
    }

    /// Starts such a pass; one that is [`PassStatus::Running`] must be [finished](Self::finish).
    ///
    /// At most [`in_flight`](Self::in_flight) passes may run at a time.
    ///
    /// # Errors
    /// As [`forward_branches`](Self::forward_branches).
    fn begin(
        &mut self,
        images: &[&PreparedImage],
        request: ForwardRequest<'_>,
    ) -> Result<PassStatus, BaseError> {
        Ok(PassStatus::Done(self.forward_branches(images, request)?))
    }

    /// Waits for a running pass and returns its output, which may hold more than requested.
    ///
    /// # Errors
    /// If the device fails, or no pass runs on this stream.
    fn finish(&mut self, stream: usize) -> Result<ForwardOutput, BaseError> {
        Err(BaseError::NothingRuns { stream })
    }

    /// Returns how many passes may run at a time.
    ///
    /// With two, the device computes the next pass while the previous one is read and answered.
    fn in_flight(&self) -> usize {
        1
    }

    /// Returns the maps that a branch at this point reads, `[images, channels, height, width]`.
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and if no head can branch off there.
    fn trunk_maps(
        &mut self,
        _images: &[&PreparedImage],
        _branch: BranchPoint,
    ) -> Result<Vec<f32>, BaseError> {
        Err(BranchError::NotHere.into())
    }

    /// Loads a deep head's layers onto the device and runs them once.
    ///
    /// # Errors
    /// If the layers do not fit this network, or the device fails.
    fn load_branch(&mut self, _weights: &BranchWeights) -> Result<BranchId, BaseError> {
        Err(BranchError::NotHere.into())
    }

    /// Frees the branch's memory.
    fn unload_branch(&mut self, _id: BranchId) {}
}

#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    #[error("all images of a batch must have the same side, found {first} and {other}")]
    MixedSides { first: u32, other: u32 },
    #[error("no forward pass is running on stream {stream}")]
    NothingRuns { stream: usize },
    #[error(transparent)]
    Branch(#[from] BranchError),
    #[error("the device failed: {detail}")]
    Device { detail: String },
}

/// The error of a program built without the cargo feature `torch`, which cannot run a base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("built without libtorch: build with the default features to run a base here")]
pub struct BuiltWithoutLibtorch;
