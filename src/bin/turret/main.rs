//! `turret`: the server, its client, and the tools for base files.

mod base;
#[cfg(feature = "torch")]
mod base_compute;
mod leave;
mod load_base;
mod serve;

use std::process::ExitCode;

use clap::{Command, FromArgMatches, Subcommand};
use turret::config::{SERVE, settings::with_settings};
use turret_client::cli::{
    ClientCommand,
    printing::{exit_code, parse_command_line},
};

/// The name that begins each error.
const PROGRAM: &str = "turret";
/// Exit code of an invalid command line or configuration.
const USAGE: u8 = 2;

fn command() -> Command {
    let serve = Command::new("serve").about("Serve the heads of a folder over gRPC").after_help(
        "Every setting is also a TURRET_* variable and a key of the TOML file that --config names.",
    );
    let command = Command::new(PROGRAM)
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_settings(serve, SERVE));
    // The client's subcommands come with a description of their own, for a program of their own.
    let command = ClientCommand::augment_subcommands(command).about(
        "A gRPC server for image classifiers: one frozen base, many heads, swapped while it serves",
    );
    let base =
        Command::new("base").about("Prepare and inspect base files").arg_required_else_help(true);
    command.subcommand(base::BaseCommand::augment_subcommands(base).subcommand_required(true))
}

fn main() -> ExitCode {
    let matches = match parse_command_line(command()) {
        Ok(matches) => matches,
        Err(code) => return code,
    };
    let result = match matches.subcommand() {
        Some(("serve", matches)) => return serve::run(matches),
        Some(("classify" | "heads", _)) => ClientCommand::from_arg_matches(&matches)
            .map_err(Into::into)
            .and_then(ClientCommand::run),
        Some(("base", matches)) => {
            base::BaseCommand::from_arg_matches(matches).map_err(Into::into).and_then(base::run)
        }
        // clap rejects every other subcommand.
        Some(_) | None => return ExitCode::from(USAGE),
    };
    exit_code(PROGRAM, result)
}
