//! `turretctl`: the command line client of a running server.

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser};
use turret_client::cli::{
    ClientCommand,
    printing::{exit_code, parse_command_line},
};

/// Query a running Turret server: classify pictures, list its heads
#[derive(Debug, Parser)]
#[command(name = "turretctl", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: ClientCommand,
}

fn main() -> ExitCode {
    let matches = match parse_command_line(Cli::command()) {
        Ok(matches) => matches,
        Err(code) => return code,
    };
    let result = Cli::from_arg_matches(&matches).map_err(Into::into);
    exit_code("turretctl", result.and_then(|cli| cli.command.run()))
}
