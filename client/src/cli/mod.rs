//! The subcommands `classify` and `heads`, as `turretctl` and `turret` offer them.

mod classify;
mod heads;
mod output;

use std::process::ExitCode;

use clap::Subcommand;

/// A subcommand that asks a running server.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Have pictures judged by a running server
    Classify(classify::Options),
    /// Show which heads a running server serves, and which files it refuses
    Heads(heads::Options),
}

impl ClientCommand {
    /// Runs the subcommand and prints its results on standard output.
    ///
    /// Exit code 0: everything asked was answered; 1: something was not, or nobody read on.
    ///
    /// # Errors
    /// If the server cannot be asked, a file cannot be found or the results cannot be written.
    /// A reader that closed the pipe, such as `head`, is no error.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let result = match self {
            Self::Classify(options) => classify::run(options),
            Self::Heads(options) => heads::run(options),
        };
        match result {
            Err(error) if output::is_closed_pipe(&error) => Ok(ExitCode::FAILURE),
            result => result,
        }
    }
}
