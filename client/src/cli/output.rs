//! Prints results: a table for people, JSON lines for programs.

use std::{
    fmt::Display,
    io::{self, ErrorKind, IsTerminal, Write, stdout},
};

use clap::{Args, ValueEnum};
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Form {
    /// A table on a terminal, JSON lines otherwise.
    Auto,
    Table,
    Json,
}

#[derive(Debug, Clone, Copy, Args)]
pub(super) struct OutputOptions {
    /// Format of the results: auto is a table on a terminal, JSON lines otherwise
    #[arg(long, value_enum, default_value = "auto", env = "TURRET_OUTPUT")]
    output: Form,
    /// The same as --output json
    #[arg(long)]
    json: bool,
}

impl OutputOptions {
    pub(super) fn is_json(self) -> bool {
        match self.output {
            _ if self.json => true,
            Form::Json => true,
            Form::Table => false,
            Form::Auto => !stdout().is_terminal(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
pub(super) struct WriteError(#[source] io::Error);

/// Prints a line; unlike `println!`, returns an error if the pipe is closed or the disk is full.
pub(super) fn print(line: impl Display) -> Result<(), WriteError> {
    writeln!(stdout(), "{line}").map_err(WriteError)
}

pub(super) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<WriteError>();
    error.is_some_and(|WriteError(cause)| cause.kind() == ErrorKind::BrokenPipe)
}

pub(super) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header);
    table
}
