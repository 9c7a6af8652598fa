//! The client against a server of the protocol that does what each test tells it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[cfg(feature = "cli")]
mod command_line;
mod connecting;
mod fake_server;
mod retries;
mod round_trips;
