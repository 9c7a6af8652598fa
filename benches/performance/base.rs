//! The one place where a benchmark opens a base.

use std::path::Path;

use anyhow::Result;
use turret::{
    base::{Base, BaseWeights, Device},
    torch::{Network, set_cpu_threads},
};

/// Where `make` puts the bundled base with its activation ranges.
pub(crate) const FILE: &str = ".bench/base.safetensors";
/// The arithmetics that a base may compute in on a processor, by the names that `--precision` takes.
pub(crate) const PRECISIONS: [&str; 3] = ["fp32", "bf16", "int8"];

/// A base on the CPU, ready for its first forward pass.
///
/// # Errors
/// If the file is no base, or this processor or build does not compute in that precision.
pub(crate) fn open_base(path: &Path, precision: &str, threads: usize) -> Result<Box<dyn Base>> {
    set_cpu_threads(threads);
    Ok(Box::new(Network::new(&BaseWeights::load(path)?, Device::Cpu, precision.parse()?)?))
}

/// Whether the processor multiplies bf16 itself; elsewhere every product is a detour over fp32.
pub(crate) fn has_native_bf16() -> bool {
    let flags = fs_err::read_to_string("/proc/cpuinfo").unwrap_or_default();
    ["avx512_bf16", "amx_bf16"].iter().any(|flag| flags.contains(flag))
}
