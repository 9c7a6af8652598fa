//! `turretctl`: the command line client of a running server.

use std::{
    io::{Write, stderr},
    process::ExitCode,
};

use clap::Parser;
use turret_client::cli::ClientCommand;

/// Query a running Turret server: classify pictures, list its heads
#[derive(Debug, Parser)]
#[command(name = "turretctl", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: ClientCommand,
}

fn main() -> ExitCode {
    Cli::parse().command.run().unwrap_or_else(|error| {
        // There is nowhere left to report a failure to.
        let _ignored = writeln!(stderr(), "turretctl: {error:#}");
        ExitCode::FAILURE
    })
}
