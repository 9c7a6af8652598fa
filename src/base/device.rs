//! Where the base runs: the CPU, or a CUDA device whose library is opened only when it is wanted.

use std::{fmt, path::Path, str::FromStr};

/// `auto`, `cpu` or `cuda:N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Device {
    /// The first CUDA device where there is one, else the CPU.
    #[default]
    Auto,
    Cpu,
    Cuda(usize),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    #[error("{text:?} is not a device: auto, cpu or cuda:N is wanted")]
    Unknown { text: String },
    #[error(
        "no CUDA device: libtorch_cuda.so cannot be opened ({detail}); install the full torch 2.11.0 or use --device cpu"
    )]
    NoCudaLibrary { detail: String },
    #[error("cuda:{wanted} does not exist: {found} CUDA devices are here")]
    NoSuchCudaDevice { wanted: usize, found: i64 },
}

impl Device {
    /// Decides `auto`, opens what the device needs and makes sure that it is there.
    pub fn resolve(self) -> Result<tch::Device, DeviceError> {
        match self {
            Self::Cpu => Ok(tch::Device::Cpu),
            Self::Cuda(number) => cuda(number),
            Self::Auto if Path::new("/proc/driver/nvidia/version").exists() => Ok(cuda(0)
                .inspect_err(|error| tracing::warn!(%error, "falling back to the cpu"))
                .unwrap_or(tch::Device::Cpu)),
            Self::Auto => Ok(tch::Device::Cpu),
        }
    }
}

fn cuda(number: usize) -> Result<tch::Device, DeviceError> {
    super::cuda::library::open().map_err(|detail| DeviceError::NoCudaLibrary { detail })?;
    let found = tch::Cuda::device_count();
    if i64::try_from(number).is_ok_and(|number| number < found) {
        Ok(tch::Device::Cuda(number))
    } else {
        Err(DeviceError::NoSuchCudaDevice { wanted: number, found })
    }
}

/// Threads that libtorch may use for one forward pass. Must be called before any other thread computes: libtorch
/// copies the number into each thread at its first use.
pub fn set_cpu_threads(threads: usize) {
    tch::set_num_threads(threads.clamp(1, 1024) as i32);
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

impl FromStr for Device {
    type Err = DeviceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || DeviceError::Unknown { text: text.to_owned() };
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            _ => {
                let number = text.strip_prefix("cuda:").ok_or_else(unknown)?;
                number.parse().map(Self::Cuda).map_err(|_| unknown())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_writes_and_refuses_the_rest() {
        for device in [Device::Auto, Device::Cpu, Device::Cuda(3)] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        for text in ["gpu", "cuda", "cuda:", "cuda:-1", "CPU"] {
            assert!(text.parse::<Device>().is_err(), "{text:?} was accepted");
        }
    }
}
