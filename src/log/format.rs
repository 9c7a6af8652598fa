//! The two formats of a line, in which no value can begin a line or steer a terminal.

use std::fmt;

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter,
    field::RecordFields,
    fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter, format::Writer},
    registry::LookupSpan,
};
use turret_client::cli::printing::escaped;

use super::LogFormat;

/// Returns the subscriber that formats events and gives their lines to the writer.
///
/// A writer that fails loses lines without a word.
pub fn subscriber(
    writer: impl for<'w> MakeWriter<'w> + Send + Sync + 'static,
    filter: EnvFilter,
    format: LogFormat,
    colours: bool,
) -> Box<dyn Subscriber + Send + Sync> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(colours)
        // They would go to standard error with `eprintln!`.
        .log_internal_errors(false);
    match format {
        LogFormat::Text => Box::new(builder.fmt_fields(EscapedFields).finish()),
        LogFormat::Json => {
            Box::new(builder.json().flatten_event(true).map_event_format(EscapedLine).finish())
        }
    }
}

/// Formats the message and the fields; all else in a line of text comes from the code.
///
/// A value that could pass for something else, such as for a second field, stands in quotes.
#[derive(Debug)]
struct EscapedFields;

impl<'w> FormatFields<'w> for EscapedFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut pairs = Pairs::default();
        fields.record(&mut pairs);
        writer.write_str(&pairs.0)
    }
}

/// `message name=value other="two words"`
#[derive(Default)]
struct Pairs(String);

impl Pairs {
    fn push(&mut self, field: &Field, value: &str) {
        let space = if self.0.is_empty() { "" } else { " " };
        match field.name() {
            "message" => self.0 = format!("{}{}{}", escaped(value), space, self.0),
            name if is_plain(value) || is_quoted(value) => {
                self.0 += &format!("{space}{name}={}", escaped(value));
            }
            name => self.0 += &format!("{space}{name}={}", escaped(&format!("{value:?}"))),
        }
    }
}

impl Visit for Pairs {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, &format!("{value:?}"));
    }
}

fn is_plain(value: &str) -> bool {
    !value.is_empty()
        && value.chars().all(|c| c.is_ascii_alphanumeric() || "._:/@+-%[](),".contains(c))
}

/// Returns whether the value is one string as `Debug` writes it.
fn is_quoted(value: &str) -> bool {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return false;
    };
    let mut after_backslash = false;
    let is_open = inner.chars().all(|c| {
        let ends = c == '"' && !after_backslash;
        after_backslash = c == '\\' && !after_backslash;
        !ends
    });
    is_open && !after_backslash
}

/// Formats a line of JSON, which may hold such characters within strings only.
///
/// JSON requires only those below U+0020 to be escaped. The notation is that of JSON.
#[derive(Debug)]
struct EscapedLine<F>(F);

impl<S, N, F> FormatEvent<S, N> for EscapedLine<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        writeln!(writer, "{}", escaped(line.trim_end_matches('\n')))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex},
        time::Duration,
    };

    use proptest::prelude::*;

    use super::*;
    use crate::log::LogWriter;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns what a log in this format writes.
    fn logged(format: LogFormat, events: impl FnOnce()) -> String {
        let memory = Memory::default();
        let writer = LogWriter::start(memory.clone()).unwrap();
        let subscriber = subscriber(writer.clone(), EnvFilter::new("info"), format, false);
        tracing::subscriber::with_default(subscriber, events);
        writer.flush(Duration::from_secs(60));
        let bytes = memory.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    /// Logs the text as every kind of value.
    fn log_everywhere(text: &str) {
        let error = io::Error::other(text.to_owned());
        let _span = tracing::info_span!("span", part_id = %text, text).entered();
        tracing::info!(part_id = %text, text, ?text, error = %error, "{text}");
        tracing::info!(source = &error as &(dyn std::error::Error + 'static), "told");
    }

    fn is_one_clean_line(line: &str) -> bool {
        line.chars().all(|character| !character.is_control() && character != '\u{2028}')
    }

    #[test]
    fn line_breaks_and_terminal_codes_are_escaped_in_text() {
        let line = logged(LogFormat::Text, || {
            tracing::info!(part_id = %"SN123\r\n", path = %"\u{1b}[2J", "ver\u{9b}dict\n");
        });
        assert!(
            line.ends_with("ver\\u009bdict\\n part_id=\"SN123\\r\\n\" path=\"\\u{1b}[2J\"\n"),
            "{line:?}"
        );
    }

    #[test]
    fn no_value_passes_for_another_field() {
        let line = logged(LogFormat::Text, || {
            let forged = "a\" decision=PASS task=\"x";
            tracing::info!(part_id = %forged, task = forged, path = ?forged, plain = %"a/b.c:1");
            tracing::info!(empty = %"", zero_width = %"a\u{200b}b", backslash = %"a\\nb", ?forged, "said");
        });
        let quoted = r#""a\" decision=PASS task=\"x""#;
        let expected = format!("part_id={quoted} task={quoted} path={quoted} plain=a/b.c:1\n");
        assert!(line.contains(&expected), "{line}");
        let expected = format!(
            "said empty=\"\" zero_width=\"a\\u{{200b}}b\" backslash=\"a\\\\nb\" forged={quoted}\n"
        );
        assert!(line.ends_with(&expected), "{line}");
    }

    #[test]
    fn json_keeps_every_value_and_escapes_it() {
        let text = "SN\r\n\u{1b}\u{7f}\u{9b}\u{2028}\u{202e}\"\\";
        let line = logged(LogFormat::Json, || tracing::info!(part_id = %text, "verdict"));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&value["part_id"], &value["message"]), (&text.into(), &"verdict".into()));
        assert!(is_one_clean_line(line.trim_end_matches('\n')), "{line:?}");
    }

    proptest! {
        #[test]
        fn no_value_puts_a_control_character_into_a_line(text in any::<String>()) {
            for format in [LogFormat::Text, LogFormat::Json] {
                let lines = logged(format, || log_everywhere(&text));
                let lines: Vec<&str> = lines.strip_suffix('\n').unwrap().split('\n').collect();
                prop_assert_eq!(lines.len(), 2, "{:?}", lines);
                for line in lines {
                    prop_assert!(is_one_clean_line(line), "{:?}", line);
                    let json = serde_json::from_str::<serde_json::Value>(line);
                    prop_assert!(format == LogFormat::Text || json.is_ok(), "{:?}", line);
                }
            }
        }
    }
}
