//! Ends the process without the destructors of libraries.
#![expect(unsafe_code, reason = "FFI; the call states its safety condition")]

use std::ffi::c_int;

unsafe extern "C" {
    fn _exit(status: c_int) -> !;
}

/// Ends the process at once.
///
/// libtorch frees its tables at a regular exit, and a thread that still loads the base, or waits in
/// a forward pass, would read them.
pub(crate) fn leave(code: u8) -> ! {
    // SAFETY: POSIX allows the call at any time; nothing of this process runs after it.
    unsafe { _exit(c_int::from(code)) }
}
