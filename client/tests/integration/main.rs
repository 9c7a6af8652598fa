//! The client against a fake server that each test scripts.

#![expect(clippy::unwrap_used, reason = "a test that cannot continue has failed")]

#[cfg(feature = "cli")]
mod command_line;
mod connecting;
mod fake_server;
mod retries;
mod round_trips;
