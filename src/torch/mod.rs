//! Execution with libtorch: the only module that names `tch` or `torch_sys`.
//!
//! - Serving: `network` ([`Network`] runs a base, be it ResNet18, ResNet34 or VGG16), `steps` (its
//!   layers), `branches` (private layers of deep heads on the trunk's maps), `pooling` (average and
//!   maximum of each channel).
//! - Convolutions: `folding` (BatchNorm folded into them), `kernels` (one kind per device and
//!   precision: `onednn` and `int8` through `dispatcher`, `cudnn`, `eager`).
//! - Devices: `device` and `precision` (resolve `auto`), `cuda` (opens libtorch's CUDA library,
//!   records and replays forward passes).
//! - Calibration: `calibration` ([`calibrate`] measures the activation ranges for int8).
//! - Training: `trainable_head` ([`TrainableHead`], a deep head in training), `trainable_branch`
//!   (its private layers), `adam` (the optimiser).
//! - Plumbing: `values` (copies tensors into host memory), `ffi` (errors from the C++ files).

mod adam;
mod branches;
mod calibration;
mod cuda;
mod device;
mod ffi;
mod folding;
mod kernels;
mod network;
mod pooling;
mod precision;
mod steps;
mod trainable_branch;
mod trainable_head;
mod values;

pub use calibration::{PercentileError, calibrate};
pub use device::set_cpu_threads;
pub use network::{BuildError, Network};
pub use trainable_head::{LinearStart, Rates, Rows, TrainableHead};

use crate::base::BaseError;

impl From<tch::TchError> for BaseError {
    fn from(error: tch::TchError) -> Self {
        Self::Device { detail: error.to_string() }
    }
}
