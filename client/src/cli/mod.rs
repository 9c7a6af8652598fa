//! The subcommands `classify` and `heads`, as `turretctl` and `turret` offer them.

mod classify;
mod heads;
mod output;

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
    /// Exit code 0: every request was answered; 1: one was not, or the reader closed the pipe.
    ///
    /// # Errors
    /// If the server cannot be reached, a file cannot be found or the results cannot be written.
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
