//! Errors while fetching weights.

use std::{io, path::PathBuf};

use crate::ids::Digest;

#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("unknown weights {found:?}, expected one of {expected}")]
    UnknownName { found: String, expected: String },
    #[error("cannot access {path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{path} is being written by another process; wait for it to finish")]
    Busy { path: PathBuf },
    #[error(
        "cannot connect to {url} ({source}): \
         download that file on a machine with network access, copy it here and run \
         `turret base import {file} -o base.safetensors` \
         (timm's safetensors have the same names and work too), \
         or use the demo base, which needs no network"
    )]
    Unreachable { url: String, file: String, source: io::Error },
    #[error(
        "{url} answered with status {status}: try another address, \
         or download {file} by other means and run `turret base import {file} -o base.safetensors`"
    )]
    Status { url: String, file: String, status: u16 },
    #[error(
        "lost the connection to {url} after {received} bytes{} ({source}) and retries failed; \
         run the same command again to resume",
        .expected.map(|total| format!(" of {total}")).unwrap_or_default()
    )]
    Interrupted { url: String, received: u64, expected: Option<u64>, source: io::Error },
    #[error(
        "{url} sends more than {expected} bytes, more than any known weights; check the address"
    )]
    TooLarge { url: String, expected: u64 },
    #[error(
        "{url} sent a wrong file: its SHA-256 is {found}, expected one starting with {expected}; \
         the file was discarded, run the same command again to start over"
    )]
    Digest { url: String, expected: &'static str, found: Digest },
}

impl FetchError {
    /// Returns whether the same request may soon succeed.
    pub(super) fn is_transient(&self) -> bool {
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
