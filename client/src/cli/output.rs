//! Shows results: a table for people, JSON lines for programs.

use std::io::{IsTerminal, stdout};

use clap::{Args, ValueEnum};
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};

use super::printing::escaped;

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

pub(super) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header);
    table
}

/// Makes cells of a row, in which no text from outside can break the table.
pub(super) fn cells<const N: usize>(texts: [String; N]) -> [String; N] {
    texts.map(|text| escaped(&text).into_owned())
}

/// Returns `1 picture`, `2 pictures`.
pub(super) fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_is_counted_in_the_singular() {
        let requests = |count| counted(count, "request");
        assert_eq!([0, 1, 2].map(requests), ["0 requests", "1 request", "2 requests"]);
    }

    #[test]
    fn cells_with_line_breaks_do_not_break_the_table() {
        let mut shown = table(["task", "label"]);
        shown.add_row(cells(["bracket\nseal", "\u{1b}[31mred"].map(str::to_owned)));
        let text = shown.to_string();
        assert_eq!(text.lines().count(), 5, "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}
