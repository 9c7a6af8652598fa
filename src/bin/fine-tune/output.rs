//! Output during a run: progress bars and text for people, JSON lines for programs.

use std::{
    io::{self, IsTerminal, Write},
    str::FromStr,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use turret::{
    error::ParseNameError,
    train::{Event, Outcome, TrainOptions},
};

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

pub(crate) enum Output {
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
        let text = match kind {
            OutputKind::Auto => io::stdout().is_terminal(),
            OutputKind::Text => true,
            OutputKind::Json => false,
            OutputKind::Quiet => return Self::Quiet,
        };
        if !text {
            return Self::Json;
        }
        Self::Text { bar: ProgressBar::hidden(), stage: Stage::None, warnings: 0 }
    }

    pub(crate) fn event(&mut self, event: &Event<'_>) {
        match self {
            Self::Json => print_line(&json_line(event)),
            Self::Quiet => {
                if let Event::Warning(warning) = event {
                    eprintln!("warning: {warning}");
                }
            }
            Self::Text { bar, stage, warnings } => {
                match event {
                    Event::Dataset { classes, pictures } => {
                        print_line(&format!("{pictures} pictures of {} classes", classes.len()));
                    }
                    Event::Good { classes, by_name } => {
                        let why = if *by_name { " (by name; use --good to change)" } else { "" };
                        print_line(&format!("pass: {}{why}", classes.join(", ")));
                    }
                    Event::Levels { levels, pictures } => {
                        let levels = levels.map_or("full range".to_owned(), |it| it.to_string());
                        print_line(&format!("levels: {levels} ({pictures} deep pictures)"));
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
                        bar.suspend(|| eprintln!("warning: {warning}"));
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
    }

    /// Ends the bars and prints the number of warnings, whether or not the run succeeded.
    pub(crate) fn end(&self) {
        let Self::Text { bar, warnings, .. } = self else { return };
        bar.abandon();
        if *warnings > 0 {
            eprintln!("{warnings} warnings");
        }
    }

    pub(crate) fn report(&self, options: &TrainOptions, outcome: &Outcome) {
        if matches!(self, Self::Text { .. }) {
            print_line(&report::text(options, outcome));
        }
    }
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
    let mut line = serde_json::json!(event);
    if let (Event::Warning(warning), Some(fields)) = (event, line.as_object_mut()) {
        fields.insert("message".to_owned(), warning.to_string().into());
    }
    line.to_string()
}

/// Prints a line and ignores errors: the head is worth finishing even if the reader is gone.
pub(crate) fn print_line(line: &str) {
    let mut stdout = io::stdout().lock();
    let _ignored = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

#[cfg(test)]
mod tests {
    use turret::train::Warning;

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
    fn unknown_output_kind_is_rejected() {
        assert_eq!("json".parse::<OutputKind>().ok(), Some(OutputKind::Json));
        let error = "JSON".parse::<OutputKind>().unwrap_err().to_string();
        assert_eq!(error, r#"unknown output "JSON", expected "auto", "text" or "json""#);
    }
}
