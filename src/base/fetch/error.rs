//! What can go wrong while weights are fetched.

use std::{io, path::PathBuf};

use crate::ids::Digest;

#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("no weights are known as {found:?}; there are {expected}")]
    UnknownName { found: String, expected: String },
    #[error("cannot use {path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{path} is being written by another process; wait for it to end")]
    Busy { path: PathBuf },
    #[error(
        "there is no connection to {url} ({source}): \
         download that file on a machine that has a network, copy it here and run \
         `turret base import {file} -o base.safetensors` (timm's safetensors have the same names and do as well), \
         or use the demo base, which needs no network"
    )]
    Unreachable { url: String, file: String, source: io::Error },
    #[error(
        "{url} answered with status {status}: name another address, \
         or download {file} by other means and run `turret base import {file} -o base.safetensors`"
    )]
    Status { url: String, file: String, status: u16 },
    #[error(
        "the connection to {url} was lost after {received} bytes{} ({source}) and asking again did not help; \
         the same command goes on from there",
        .expected.map(|total| format!(" of {total}")).unwrap_or_default()
    )]
    Interrupted { url: String, received: u64, expected: Option<u64>, source: io::Error },
    #[error(
        "{url} sends more than {expected} bytes, which no known weights need; check the address"
    )]
    TooLarge { url: String, expected: u64 },
    #[error(
        "what {url} sent is not the file it should be: its SHA-256 is {found}, expected one that starts with \
         {expected}; nothing of it was kept, so the same command starts over"
    )]
    Digest { url: String, expected: &'static str, found: Digest },
}

impl FetchError {
    /// Whether the same request may go better in a moment.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Interrupted { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500..),
            Self::UnknownName { .. }
            | Self::File { .. }
            | Self::Busy { .. }
            | Self::Unreachable { .. }
            | Self::TooLarge { .. }
            | Self::Digest { .. } => false,
        }
    }
}
