//! How results are shown: a table to people, JSON lines to programs.

use std::io::{IsTerminal, Write, stderr, stdout};

use clap::{Args, ValueEnum};
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// A table on a terminal, JSON lines otherwise.
    Auto,
    Table,
    Json,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct OutputOptions {
    /// How results are shown: auto is a table on a terminal, JSON lines otherwise
    #[arg(long, value_enum, default_value = "auto", env = "TURRET_OUTPUT")]
    output: Form,
    /// The same as --output json
    #[arg(long)]
    json: bool,
}

impl OutputOptions {
    pub(crate) fn is_json(self) -> bool {
        match self.output {
            _ if self.json => true,
            Form::Json => true,
            Form::Table => false,
            Form::Auto => !stdout().is_terminal(),
        }
    }
}

pub(crate) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header);
    table
}

/// The error with its causes, and for a gRPC status its code, on standard error.
pub(crate) fn tell_error(error: &anyhow::Error) {
    // Nowhere is left to complain if this fails.
    let _unheard = writeln!(stderr(), "turret: {error:#}");
}

/// A status as one line: the code's name and what the server said.
pub(crate) fn status_line(status: &tonic::Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}
