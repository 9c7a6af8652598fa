//! How errors are told.

use std::io::{Write, stderr};

/// The error with its causes on standard error.
pub(crate) fn tell_error(error: &anyhow::Error) {
    // Nowhere is left to complain if this fails.
    let _unheard = writeln!(stderr(), "turret: {error:#}");
}
