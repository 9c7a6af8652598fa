//! Opens libtorch's CUDA library at run time, so that one binary also runs without it.

use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

const NAME: &str = "libtorch_cuda.so";

/// Opens the library once; it registers its kernels and stays open until the process ends.
pub(in crate::torch) fn open() -> Result<(), String> {
    static OPENED: OnceLock<Result<(), String>> = OnceLock::new();
    OPENED.get_or_init(load).clone()
}

#[expect(unsafe_code, reason = "opening a shared library runs its initialisers")]
fn load() -> Result<(), String> {
    // SAFETY: the library is libtorch's own, of the version that this binary is linked against,
    // found on the binary's run path. Its initialisers only register kernels. It is never closed,
    // so nothing of it can dangle.
    let library = unsafe { Library::open(Some(NAME), RTLD_NOW | RTLD_GLOBAL) };
    library.map(std::mem::forget).map_err(|error| error.to_string())
}
