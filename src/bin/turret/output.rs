//! What the subcommands print.

use std::{
    io::{Write, stderr},
    path::Path,
};

use turret::base::BaseWeights;

/// Prints an error and its causes to standard error.
pub(crate) fn print_error(error: &anyhow::Error) {
    // There is nowhere left to report a failure to.
    let _ignored = writeln!(stderr(), "turret: {error:#}");
}

/// Prints the name and identity of a base file that was written.
pub(crate) fn announce(weights: &BaseWeights, output: &Path) {
    let identity = weights.identity();
    println!(
        "{}: {} {}, {}",
        output.display(),
        identity.architecture,
        identity.digest,
        weights.origin()
    );
}
