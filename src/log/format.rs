//! The two formats of a line, in which no value can begin a line or steer a terminal.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    field::RecordFields,
    fmt::{
        FmtContext, FormatEvent, FormatFields, MakeWriter,
        format::{DefaultFields, Writer},
    },
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
#[derive(Debug)]
struct EscapedFields;

impl<'w> FormatFields<'w> for EscapedFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut text = String::new();
        DefaultFields::new().format_fields(Writer::new(&mut text), fields)?;
        writer.write_str(&escaped(&text))
    }
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
            line.ends_with("ver\\u{9b}dict\\n part_id=SN123\\r\\n path=\\u001b[2J\n"),
            "{line:?}"
        );
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
