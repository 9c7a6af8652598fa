//! The log of a program: lines of text or JSON on standard error.
//!
//! A log that cannot be written, or that nobody reads, costs lines and nothing else: see
//! [`LogWriter`]. Whatever a value holds, it cannot begin a line or steer a terminal: both formats
//! escape control characters.

mod format;
mod writer;

pub use format::subscriber;
pub use writer::LogWriter;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    fs::File,
    io::{self, IsTerminal, stderr},
    os::fd::AsFd,
    panic::PanicHookInfo,
    str::FromStr,
};

use tracing_subscriber::{
    EnvFilter,
    util::{SubscriberInitExt, TryInitError},
};

use crate::error::ParseNameError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

impl FromStr for LogFormat {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(ParseNameError::new("log format", text, &["text", "json"])),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StartLogError {
    #[error("cannot write the log to standard error: {0}")]
    Writer(#[from] io::Error),
    #[error("the process already has a log: {0}")]
    Doubled(#[from] TryInitError),
}

/// Starts the log of this process on standard error; panics are logged too.
///
/// # Errors
/// If the process already has a log, standard error cannot be duplicated, or no thread started.
pub fn start(filter: EnvFilter, format: LogFormat) -> Result<LogWriter, StartLogError> {
    // A file of its own: whoever waits to write to `stderr()` holds its lock.
    let output = File::from(stderr().as_fd().try_clone_to_owned()?);
    let writer = LogWriter::start(output)?;
    subscriber(writer.clone(), filter, format, stderr().is_terminal()).try_init()?;
    // The standard hook writes to standard error, and would wait for it.
    std::panic::set_hook(Box::new(log_panic));
    Ok(writer)
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let message = panic.payload_as_str().unwrap_or("no message");
    let backtrace = Backtrace::capture();
    let backtrace =
        (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(thread, location, message, backtrace, "panicked");
}
