//! Output during a run: progress bars and text for people, JSON lines for programs.

use std::{
    io::{self, IsTerminal},
    str::FromStr,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use turret::{
    error::ParseNameError,
    train::{Event, Outcome, TrainOptions, Warning},
};
use turret_client::cli::printing::{WriteError, escaped, escaped_lines, print, print_to_stderr};

use crate::report;

const REDRAW: Duration = Duration::from_millis(250);

/// The form of output asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OutputKind {
    /// Text on a terminal, JSON lines otherwise.
    Auto,
    Text,
    Json,
    /// Only warnings.
    Quiet,
}

impl FromStr for OutputKind {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(ParseNameError::new("output", text, &["auto", "text", "json"])),
        }
    }
}

/// Shows a run.
///
/// A run is worth finishing even if nobody can be told of it: [`end`](Self::end) returns the first
/// line that could not be printed as an error.
pub(crate) struct Output {
    form: Form,
    printed: Result<(), WriteError>,
}

enum Form {
    Json,
    Quiet,
    Text {
        /// Hides itself if standard error is not a terminal.
        bar: ProgressBar,
        stage: Stage,
        warnings: usize,
    },
}

/// What the bar counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    None,
    Features,
    Epochs,
    Maps,
    Layers(Option<usize>),
}

impl Output {
    pub(crate) fn new(kind: OutputKind) -> Self {
        let text = || Form::Text { bar: ProgressBar::hidden(), stage: Stage::None, warnings: 0 };
        let form = match kind {
            OutputKind::Auto if io::stdout().is_terminal() => text(),
            OutputKind::Auto | OutputKind::Json => Form::Json,
            OutputKind::Text => text(),
            OutputKind::Quiet => Form::Quiet,
        };
        Self { form, printed: Ok(()) }
    }

    pub(crate) fn event(&mut self, event: &Event<'_>) {
        let line = self.form.show(event);
        if let Some(line) = line {
            self.print(&line);
        }
    }

    /// Prints text whose control characters are escaped already.
    pub(crate) fn print(&mut self, text: &str) {
        if self.printed.is_ok() {
            self.printed = print(text);
        }
    }

    /// Ends the bars and prints the number of warnings, whether or not the run succeeded.
    pub(crate) fn end_bars(&self) {
        let Form::Text { bar, warnings, .. } = &self.form else { return };
        bar.abandon();
        match warnings {
            0 => {}
            1 => print_to_stderr("1 warning"),
            _ => print_to_stderr(format_args!("{warnings} warnings")),
        }
    }

    pub(crate) fn report(&mut self, options: &TrainOptions, outcome: &Outcome) {
        if matches!(self.form, Form::Text { .. }) {
            self.print(&escaped_lines(&report::text(options, outcome)));
        }
    }

    /// # Errors
    /// If a line could not be printed.
    pub(crate) fn end(self) -> Result<(), WriteError> {
        self.printed
    }
}

impl Form {
    /// Shows an event and returns the line to print for it.
    fn show(&mut self, event: &Event<'_>) -> Option<String> {
        match self {
            Self::Json => return Some(json_line(event)),
            Self::Quiet => {
                if let Event::Warning(warning) = event {
                    warn(warning);
                }
            }
            Self::Text { bar, stage, warnings } => {
                match event {
                    Event::Dataset { classes, pictures } => {
                        return Some(format!("{pictures} pictures of {} classes", classes.len()));
                    }
                    Event::Good { classes, by_name } => {
                        let why = if *by_name { " (by name; use --good to change)" } else { "" };
                        return Some(format!("pass: {}{why}", escaped(&classes.join(", "))));
                    }
                    Event::Levels { levels, pictures } => {
                        let levels = levels.map_or("full range".to_owned(), |it| it.to_string());
                        let deep = format!("{pictures} pictures have more than 8 bits");
                        return Some(format!("levels: {levels} ({deep})"));
                    }
                    Event::Features { done, total, cached } => {
                        count(bar, stage, (Stage::Features, "features"), [*done, *total, *cached]);
                    }
                    Event::Maps { done, total, cached } => {
                        count(bar, stage, (Stage::Maps, "maps"), [*done, *total, *cached]);
                    }
                    Event::Epoch(epoch) => {
                        if *stage != Stage::Epochs {
                            *stage = Stage::Epochs;
                            bar.finish();
                            *bar = new_bar(epoch.most_epochs);
                            bar.set_prefix("epochs");
                        }
                        bar.set_message(format!(
                            "validation loss {:.4}, accuracy {:.1} %",
                            epoch.validation_loss,
                            100.0 * epoch.validation_accuracy
                        ));
                        bar.set_position(epoch.epoch as u64);
                    }
                    Event::DeepEpoch(epoch) => {
                        if *stage != Stage::Layers(epoch.fold) {
                            *stage = Stage::Layers(epoch.fold);
                            bar.finish();
                            *bar = new_bar(epoch.most_epochs);
                            bar.set_prefix(epoch.fold.map_or_else(
                                || "layers".to_owned(),
                                |fold| format!("trial {fold}"),
                            ));
                        }
                        bar.set_message(format!("training loss {:.4}", epoch.train_loss));
                        bar.set_position(epoch.epoch as u64);
                    }
                    Event::Warning(warning) => {
                        *warnings += 1;
                        bar.suspend(|| warn(warning));
                    }
                    // These are in the final report.
                    Event::Choice(_)
                    | Event::Strategy(_)
                    | Event::Evaluated(_)
                    | Event::Gate(_)
                    | Event::Published { .. } => {}
                }
            }
        }
        None
    }
}

fn warn(warning: &Warning) {
    print_to_stderr(format_args!("warning: {}", escaped(&warning.to_string())));
}

/// Shows how many of `total` are done, and how many of those came from the cache.
fn count(
    bar: &mut ProgressBar,
    stage: &mut Stage,
    (new, name): (Stage, &'static str),
    [done, total, cached]: [usize; 3],
) {
    if *stage != new {
        *stage = new;
        bar.finish();
        *bar = new_bar(total);
        bar.set_prefix(name);
    }
    bar.set_message(format!("{cached} from the cache"));
    bar.set_position(done as u64);
}

fn new_bar(length: usize) -> ProgressBar {
    let bar = ProgressBar::new(length as u64);
    let style = ProgressStyle::with_template("{prefix:9} [{bar:30}] {pos}/{len} {elapsed} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(REDRAW);
    bar
}

/// Returns an event as a line of JSON; a warning also carries its text.
fn json_line(event: &Event<'_>) -> String {
    // Fails for a value that JSON cannot hold, which no event has.
    let mut line = serde_json::to_value(event).unwrap_or_default();
    if let (Event::Warning(warning), Some(fields)) = (event, line.as_object_mut()) {
        fields.insert("message".to_owned(), warning.to_string().into());
    }
    line.to_string()
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    use super::*;

    #[test]
    fn warning_line_has_kind_path_and_message() {
        let warning =
            Warning::NoPicture { path: "ok/a.txt".into(), reason: "not an image".to_owned() };
        let line: serde_json::Value =
            serde_json::from_str(&json_line(&Event::Warning(warning))).unwrap();
        assert_eq!(line["event"], "warning");
        assert_eq!((&line["kind"], &line["path"]), (&"no_picture".into(), &"ok/a.txt".into()));
        assert_eq!(line["message"], "skipped ok/a.txt: not an image");
    }

    #[test]
    fn path_that_is_not_utf8_is_shown_with_its_bad_bytes_replaced() {
        let path = OsStr::from_bytes(b"ok/\xff.png").into();
        let warning = Warning::NoPicture { path, reason: "not an image".to_owned() };
        let line: serde_json::Value =
            serde_json::from_str(&json_line(&Event::Warning(warning))).unwrap();
        assert_eq!(line["path"], "ok/\u{fffd}.png");
    }

    #[test]
    fn unknown_output_kind_is_rejected() {
        assert_eq!("json".parse::<OutputKind>().ok(), Some(OutputKind::Json));
        let error = "JSON".parse::<OutputKind>().unwrap_err().to_string();
        assert_eq!(error, r#"unknown output "JSON", expected "auto", "text" or "json""#);
    }
}
