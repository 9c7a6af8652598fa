//! Prints lines, errors and usage without ever panicking, and escapes control characters.
//!
//! A reader that closes the pipe, such as `head`, has what it wanted: the program ends quietly with
//! exit code 0. Any other failure to write is an error with exit code 1.

use std::{
    borrow::Cow,
    fmt::{self, Display, Write as _},
    io::{self, ErrorKind, Write as _, stderr, stdout},
    process::ExitCode,
};

use clap::{
    ArgMatches, Command,
    builder::StyledStr,
    error::{ContextKind, ContextValue},
};

/// Standard output could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
pub struct WriteError(#[source] io::Error);

impl WriteError {
    /// Returns whether the reader closed the pipe.
    pub fn is_closed_pipe(&self) -> bool {
        self.0.kind() == ErrorKind::BrokenPipe
    }
}

/// Several mistakes, each shown on a line of its own at the end of the error that they cause.
///
/// The text of that error ends with the text of this source. So [`error_text`] tells the line
/// breaks between mistakes from those in a value, which it escapes.
#[derive(Debug, Clone, PartialEq, Eq, Default, thiserror::Error)]
pub struct ErrorLines(pub Vec<String>);

impl fmt::Display for ErrorLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

/// Prints a line to standard output as it is.
///
/// # Errors
/// If the pipe is closed or the disk is full.
pub fn print(line: impl Display) -> Result<(), WriteError> {
    writeln!(stdout(), "{line}").map_err(WriteError)
}

/// Prints text for people to standard error, with control characters except newlines escaped.
///
/// A failure is ignored: there is nowhere left to report it to.
pub fn print_to_stderr(text: impl Display) {
    let _ignored = writeln!(stderr(), "{}", escaped_lines(&text.to_string()));
}

/// Prints [`error_text`] to standard error.
pub fn print_error(program: &str, error: &anyhow::Error) {
    print_to_stderr(error_text(program, error));
}

/// Returns an error and its causes as `program: error: cause`, with control characters escaped.
///
/// It is a single line, except that each of [`ErrorLines`] has its own.
pub fn error_text(program: &str, error: &anyhow::Error) -> String {
    let text = with_causes(error);
    let lines = error.chain().find_map(|cause| cause.downcast_ref::<ErrorLines>());
    let split = lines.and_then(|lines| Some((text.strip_suffix(&lines.to_string())?, lines)));
    let (text, lines) = match split {
        Some((text, ErrorLines(lines))) => (text, lines.as_slice()),
        None => (text.as_str(), &[][..]),
    };
    let lines = ErrorLines(lines.iter().map(|line| escaped(line).into_owned()).collect());
    format!("{program}: {}{lines}", escaped(text))
}

/// Returns an error and its causes as `error: cause`, without a cause that its error already tells.
pub fn with_causes(error: &anyhow::Error) -> String {
    let (mut text, mut last) = (String::new(), String::new());
    for cause in error.chain().map(ToString::to_string) {
        if last.is_empty() {
            text.push_str(&cause);
        } else if !last.contains(&cause) {
            // tonic's and hyper's errors begin with the text of the one before.
            let rest = cause.strip_prefix(&last).unwrap_or(&cause).trim_start_matches(": ");
            text.extend([": ", rest]);
        }
        last = cause;
    }
    text
}

/// Returns the exit code of a command, after printing its error if it has one.
pub fn exit_code(program: &str, result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| match error.downcast_ref::<WriteError>() {
        Some(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Some(_) | None => {
            print_error(program, &error);
            ExitCode::FAILURE
        }
    })
}

/// Parses the command line.
///
/// # Errors
/// The exit code, after printing the help or the mistake that the command line asked for.
pub fn parse_command_line(command: Command) -> Result<ArgMatches, ExitCode> {
    let program = command.get_name().to_owned();
    command.try_get_matches().map_err(|mut answer| {
        escape_values(&mut answer);
        match answer.print() {
            Err(error) if !answer.use_stderr() => {
                exit_code(&program, Err(WriteError(error).into()))
            }
            Ok(()) | Err(_) => {
                u8::try_from(answer.exit_code()).map_or(ExitCode::FAILURE, Into::into)
            }
        }
    })
}

/// Escapes the parts of the command line that clap repeats in its message.
fn escape_values(answer: &mut clap::Error) {
    let styled = |text: &StyledStr| match escaped(&text.to_string()) {
        Cow::Borrowed(_) => text.clone(),
        Cow::Owned(safe) => safe.into(),
    };
    let escape = |(kind, value): (ContextKind, &ContextValue)| {
        // Tips also repeat what was typed; the usage has line breaks of its own.
        let value = match value {
            ContextValue::String(text) => ContextValue::String(escaped(text).into_owned()),
            ContextValue::Strings(texts) => {
                let texts = texts.iter().map(|text| escaped(text).into_owned());
                ContextValue::Strings(texts.collect())
            }
            ContextValue::StyledStrs(tips) if kind == ContextKind::Suggested => {
                ContextValue::StyledStrs(tips.iter().map(styled).collect())
            }
            ContextValue::None
            | ContextValue::Bool(_)
            | ContextValue::Number(_)
            | ContextValue::StyledStr(_)
            | ContextValue::StyledStrs(_)
            | _ => return None,
        };
        Some((kind, value))
    };
    let values: Vec<(ContextKind, ContextValue)> = answer.context().filter_map(escape).collect();
    for (kind, value) in values {
        answer.insert(kind, value);
    }
}

/// Escapes what could break a line or steer a terminal, in the notation of JSON: `\n`, `\u001b`.
///
/// These are control characters, line separators, and marks that reverse the direction of writing.
pub fn escaped(text: &str) -> Cow<'_, str> {
    escaped_unless(text, |_| false)
}

/// As [`escaped`], but keeps newlines.
pub fn escaped_lines(text: &str) -> Cow<'_, str> {
    escaped_unless(text, |character| character == '\n')
}

fn escaped_unless(text: &str, keep: impl Fn(char) -> bool) -> Cow<'_, str> {
    let must_go = |character: char| is_unprintable(character) && !keep(character);
    if !text.contains(must_go) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            _ if !must_go(character) => safe.push(character),
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            '\t' => safe.push_str("\\t"),
            _ => {
                // Writing to a string cannot fail. All of these have at most four digits.
                let _written = write!(safe, "\\u{:04x}", u32::from(character));
            }
        }
    }
    Cow::Owned(safe)
}

fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{061c}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
        )
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn control_characters_are_escaped_and_all_else_is_kept() {
        assert_eq!(escaped("SN123\r\n"), "SN123\\r\\n");
        assert_eq!(escaped("\u{1b}[2Jä\t\u{9b}\u{202e}"), "\\u001b[2Jä\\t\\u009b\\u202e");
        assert!(matches!(escaped("gefräst ✓ \"a\\b\""), Cow::Borrowed(_)));
        assert_eq!(escaped_lines("a\r\nb\u{7}"), "a\\r\nb\\u0007");
    }

    #[derive(Debug, thiserror::Error)]
    #[error("invalid list {path}:{mistakes}")]
    struct InvalidList {
        path: &'static str,
        #[source]
        mistakes: ErrorLines,
    }

    #[test]
    fn only_the_breaks_between_mistakes_break_an_error() {
        let mistakes = || ErrorLines(vec!["line 1: a\nb".to_owned(), "line 2: \u{1b}c".to_owned()]);
        let error = |path| anyhow::Error::from(InvalidList { path, mistakes: mistakes() });
        let lines = "\n  line 1: a\\nb\n  line 2: \\u001bc";
        let path = "x\n  line 0: y.csv";
        let told = format!("p: invalid list x\\n  line 0: y.csv:{lines}");
        assert_eq!(error_text("p", &error(path)), told);
        let told = format!("p: cannot\\nread: invalid list l.csv:{lines}");
        assert_eq!(error_text("p", &error("l.csv").context("cannot\nread")), told);
        assert_eq!(error_text("p", &anyhow!("no file\r\n  x")), "p: no file\\r\\n  x");
    }

    #[test]
    fn values_in_a_mistaken_command_line_are_escaped() {
        let number = clap::value_parser!(u16);
        let command =
            Command::new("p").arg(clap::Arg::new("n").long("number").value_parser(number));
        for arguments in [["p", "--number", "1\n\u{1b}[2J"], ["p", "--wrong\n\u{1b}[2J", "3"]] {
            let mut error = command.clone().try_get_matches_from(arguments).unwrap_err();
            escape_values(&mut error);
            let text = error.render().ansi().to_string();
            assert!(text.contains("\\n\\u001b[2J") && !text.contains("\u{1b}[2J"), "{text}");
        }
    }

    #[test]
    fn cause_that_its_error_already_tells_is_printed_once() {
        let told = |error: anyhow::Error| with_causes(&error);
        let doubled = anyhow!("connection refused")
            .context("tcp connect error")
            .context("tcp connect error")
            .context("cannot reach it");
        assert_eq!(told(doubled), "cannot reach it: tcp connect error: connection refused");
        let nested = anyhow!("refused").context("no route (refused), try later");
        assert_eq!(told(nested), "no route (refused), try later");
        let open = std::fs::File::open("/nowhere").context("cannot read").unwrap_err();
        assert_eq!(told(open), "cannot read: No such file or directory (os error 2)");
    }
}
