//! The subcommands `classify` and `heads`, as `turretctl` and `turret` offer them.

mod classify;
mod heads;
mod output;
pub mod printing;

use std::process::ExitCode;

use clap::Subcommand;

/// A subcommand that queries a running server.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Classify pictures on a running server
    Classify(classify::Options),
    /// Show which heads a running server serves, and which files it rejects
    Heads(heads::Options),
}

impl ClientCommand {
    /// Runs the subcommand and prints its results on standard output.
    ///
    /// Exit code 0: every request was answered; 1: one was not.
    ///
    /// # Errors
    /// If the server cannot be reached, a file cannot be found or the results cannot be written;
    /// [`printing::exit_code`] prints them.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Classify(options) => classify::run(options),
            Self::Heads(options) => heads::run(options),
        }
    }
}
