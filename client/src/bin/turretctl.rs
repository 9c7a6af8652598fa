//! `turretctl`: asks a running server from the command line.

use std::{
    io::{Write, stderr},
    process::ExitCode,
};

use clap::Parser;
use turret_client::cli::ClientCommand;

/// Asks a running Turret server: verdicts on pictures, and which heads it serves
#[derive(Debug, Parser)]
#[command(name = "turretctl", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: ClientCommand,
}

fn main() -> ExitCode {
    Cli::parse().command.run().unwrap_or_else(|error| {
        // Nowhere is left to complain if this fails.
        let _unheard = writeln!(stderr(), "turretctl: {error:#}");
        ExitCode::FAILURE
    })
}
