//! Resolves devices; CUDA's library is opened only on request or where a driver is present.

use std::path::Path;

use super::cuda;
use crate::base::{Device, DeviceError, DeviceId};

impl Device {
    /// Resolves `auto`, opens the device's library and checks that the device exists.
    pub fn resolve(self) -> Result<DeviceId, DeviceError> {
        match self {
            Self::Cpu => Ok(DeviceId::Cpu),
            Self::Cuda(number) => cuda_device(number),
            Self::Auto if Path::new("/proc/driver/nvidia/version").exists() => Ok(cuda_device(0)
                .inspect_err(|error| tracing::warn!(%error, "falling back to the cpu"))
                .unwrap_or(DeviceId::Cpu)),
            Self::Auto => Ok(DeviceId::Cpu),
        }
    }
}

fn cuda_device(number: usize) -> Result<DeviceId, DeviceError> {
    cuda::library::open().map_err(|detail| DeviceError::NoCudaLibrary { detail })?;
    let found = tch::Cuda::device_count();
    if i64::try_from(number).is_ok_and(|number| number < found) {
        Ok(DeviceId::Cuda(number))
    } else {
        Err(DeviceError::NoSuchCudaDevice { number, found })
    }
}

/// Sets how many threads libtorch may use for one forward pass.
///
/// Must be called before any other thread computes: libtorch copies the number into each thread at
/// its first use.
pub fn set_cpu_threads(threads: usize) {
    tch::set_num_threads(threads.clamp(1, 1024) as i32);
}

impl From<DeviceId> for tch::Device {
    fn from(device: DeviceId) -> Self {
        match device {
            DeviceId::Cpu => Self::Cpu,
            DeviceId::Cuda(number) => Self::Cuda(number),
        }
    }
}
