//! How the C++ files say that something failed: `guarded.h`.
#![expect(unsafe_code, reason = "texts that C++ made; every safety condition stands at its call")]

use std::ffi::{CStr, c_char, c_void};

use tch::TchError;

/// Null, or a text that `strdup` made, for [`check`].
pub(super) type Failure = *mut c_char;

unsafe extern "C" {
    fn free(pointer: *mut c_void);
}

/// # Safety
/// `failure` comes from a function of our C++ files and was not given to this function before.
pub(super) unsafe fn check(failure: Failure) -> Result<(), TchError> {
    if failure.is_null() {
        return Ok(());
    }
    // SAFETY: the text is ours to read and to free, once.
    let text = unsafe {
        let text = CStr::from_ptr(failure).to_string_lossy().into_owned();
        free(failure.cast());
        text
    };
    Err(TchError::Torch(text))
}
