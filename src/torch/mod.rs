//! Execution with libtorch: the only module that names `tch` or `torch_sys`.
//!
//! [`Network`] runs a base: `kernels` computes convolutions, one kind for each device and precision, `cuda` replays recorded
//! passes, `branches` holds the private layers of deep heads. [`calibrate`] measures what int8 needs. [`TrainableHead`] is a
//! deep head while it learns.

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
