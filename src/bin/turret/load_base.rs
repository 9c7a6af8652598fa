//! Loads the base that `turret serve` runs, or fails if built without libtorch.

use std::path::PathBuf;

use turret::{
    base::{Base, Device, DeviceId, PrecisionChoice},
    metrics::Metrics,
};

/// Which base to run, and how.
#[cfg_attr(not(feature = "torch"), expect(dead_code, reason = "only libtorch runs a base"))]
pub(crate) struct BaseChoice {
    pub(crate) path: PathBuf,
    pub(crate) device: Device,
    pub(crate) precision: PrecisionChoice,
    /// Threads of one forward pass on the CPU.
    pub(crate) threads: usize,
}

#[cfg(feature = "torch")]
impl BaseChoice {
    /// Sets libtorch's number of threads and resolves the device of the base.
    ///
    /// Must precede the start of any other thread: libtorch copies the number of threads into each
    /// thread at its first use.
    pub(crate) fn resolve_device(&self) -> anyhow::Result<DeviceId> {
        turret::torch::set_cpu_threads(self.threads);
        Ok(self.device.resolve()?)
    }

    pub(crate) fn load(&self, metrics: &Metrics) -> anyhow::Result<Box<dyn Base>> {
        let started = std::time::Instant::now();
        let weights = turret::base::BaseWeights::load(&self.path)?;
        let base = turret::torch::Network::new(&weights, self.device, self.precision)?;
        let identity = base.identity();
        let (device, precision) = (base.device(), base.precision());
        tracing::info!(
            architecture = %identity.architecture,
            digest = %identity.digest.short(),
            origin = weights.origin(),
            %device,
            %precision,
            seconds = started.elapsed().as_secs_f64(),
            "base loaded"
        );
        let (digest, device) = (identity.digest.to_string(), device.to_string());
        metrics.set_base(&identity.architecture, &digest, &device, precision.name());
        Ok(Box::new(base))
    }
}

#[cfg(not(feature = "torch"))]
impl BaseChoice {
    pub(crate) fn resolve_device(&self) -> anyhow::Result<DeviceId> {
        Err(turret::base::BuiltWithoutLibtorch.into())
    }

    pub(crate) fn load(&self, _metrics: &Metrics) -> anyhow::Result<Box<dyn Base>> {
        Err(turret::base::BuiltWithoutLibtorch.into())
    }
}
