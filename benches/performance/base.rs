//! The only place where the performance benchmarks open a base.

use std::path::Path;

use anyhow::Result;
use turret::{
    base::{Base, BaseWeights, Device},
    torch::{Network, set_cpu_threads},
};

/// File that `make` writes: the bundled base with activation ranges.
pub(crate) const FILE: &str = ".bench/base.safetensors";
/// Precisions of a base on the CPU, as `--precision` names them.
pub(crate) const PRECISIONS: [&str; 3] = ["fp32", "bf16", "int8"];

/// Opens a base on the CPU, ready for its first forward pass.
///
/// # Errors
/// If the file is not a base, or this processor or build does not support the precision.
pub(crate) fn open_base(path: &Path, precision: &str, threads: usize) -> Result<Box<dyn Base>> {
    set_cpu_threads(threads);
    Ok(Box::new(Network::new(&BaseWeights::load(path)?, Device::Cpu, precision.parse()?)?))
}

/// Tells whether the processor multiplies bf16 natively; elsewhere products go through fp32.
pub(crate) fn has_native_bf16() -> bool {
    let flags = fs_err::read_to_string("/proc/cpuinfo").unwrap_or_default();
    ["avx512_bf16", "amx_bf16"].iter().any(|flag| flags.contains(flag))
}
