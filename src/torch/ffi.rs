//! Errors from the C++ files, which `ffi_guard.h` returns as text.
#![expect(unsafe_code, reason = "text allocated by C++; each call states its safety condition")]

use std::ffi::{CStr, c_char, c_void};

use tch::TchError;

/// Null, or a text allocated by `strdup`, for [`check`].
pub(super) type Failure = *mut c_char;

unsafe extern "C" {
    fn free(pointer: *mut c_void);
}

/// Turns a failure into an error and frees its text.
///
/// # Safety
/// `failure` comes from a function of this crate's C++ files and was not passed here before.
pub(super) unsafe fn check(failure: Failure) -> Result<(), TchError> {
    if failure.is_null() {
        return Ok(());
    }
    // SAFETY: the caller hands over the text, which is read here and freed once.
    let text = unsafe {
        let text = CStr::from_ptr(failure).to_string_lossy().into_owned();
        free(failure.cast());
        text
    };
    Err(TchError::Torch(text))
}
