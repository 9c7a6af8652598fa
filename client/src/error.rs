//! The client's error.

use std::{error::Error as StdError, iter::successors, time::Duration};

use tonic::{Code, Status, TimeoutExpired};
use tonic_types::StatusExt;

/// An address that cannot be used, a server that cannot be reached, or a call that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error(
        "invalid server address {url:?}, expected \"http://HOST:PORT\" such as \
         \"http://127.0.0.1:50051\" or \"http://[::1]:50051\""
    )]
    InvalidUrl { url: String },
    /// A person typed it; [`ServerUrl`](crate::ServerUrl) reads more forms than a client connects
    /// to.
    #[error(
        "invalid server address {address:?}, expected HOST:PORT such as \"127.0.0.1:50051\" or \
         \"[::1]:50051\", HOST for port 50051, or :PORT on this computer"
    )]
    InvalidAddress { address: String },
    /// Nothing was sent: an `https://` address never falls back to plain text.
    #[error("cannot connect to {url}: TLS is not supported yet, expected \"http://HOST:PORT\"")]
    TlsUnsupported { url: String },
    #[error("cannot reach {url} (is it the gRPC port of a running server?)")]
    Connect { url: String, source: tonic::transport::Error },
    /// An error from the server, a broken connection (UNAVAILABLE) or no answer in time
    /// (DEADLINE_EXCEEDED).
    #[error("{}{}: {message}", code_name(*code), in_brackets(reason.as_deref()))]
    #[non_exhaustive]
    Call {
        code: Code,
        /// Stable name in SCREAMING_SNAKE_CASE, for programs. Absent for a local failure.
        reason: Option<String>,
        /// Field of the request at fault, under its protocol name.
        field: Option<String>,
        /// For people.
        message: String,
        /// How long the server asks to wait before the next attempt.
        retry_after: Option<Duration>,
    },
}

impl Error {
    /// Returns the gRPC code of a failed call, `None` if no call was made.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Call { code, .. } => Some(*code),
            Self::InvalidUrl { .. }
            | Self::InvalidAddress { .. }
            | Self::TlsUnsupported { .. }
            | Self::Connect { .. } => None,
        }
    }

    /// Returns the server's stable name of what went wrong.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Call { reason, .. } => reason.as_deref(),
            Self::InvalidUrl { .. }
            | Self::InvalidAddress { .. }
            | Self::TlsUnsupported { .. }
            | Self::Connect { .. } => None,
        }
    }

    pub(crate) fn too_late() -> Self {
        Self::local(Code::DeadlineExceeded, "no answer before the deadline".to_owned())
    }

    fn local(code: Code, message: String) -> Self {
        Self::Call { code, reason: None, field: None, message, retry_after: None }
    }
}

/// Returns a code's name in gRPC's specification, such as `NOT_FOUND`.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

fn in_brackets(reason: Option<&str>) -> String {
    reason.map(|reason| format!(" ({reason})")).unwrap_or_default()
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        // Only a status that tonic makes of a local failure has a source.
        if let Some(failure) = status.source() {
            return from_failure(failure, &status);
        }
        let details = status.get_error_details();
        let violation = details.bad_request().and_then(|request| request.field_violations.first());
        Self::Call {
            code: status.code(),
            reason: details.error_info().map(|info| info.reason.clone()),
            field: violation.map(|violation| violation.field.clone()),
            message: status.message().to_owned(),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
        }
    }
}

/// Maps a transport failure to the code that gRPC's specification requires.
///
/// tonic reports an expired timeout as CANCELLED and, built without its server, a broken connection
/// as UNKNOWN.
fn from_failure(failure: &(dyn StdError + 'static), status: &Status) -> Error {
    let causes = || successors(Some(failure), |error| StdError::source(*error));
    if causes().any(|error| error.is::<TimeoutExpired>()) {
        return Error::too_late();
    }
    let of_http2 = || causes().filter_map(|error| error.downcast_ref::<h2::Error>());
    // The client itself could not make sense of what came back.
    if of_http2().any(|error| error.is_library() && !error.is_reset()) {
        let message = "the answer is not HTTP/2, is this the server's gRPC port?".to_owned();
        return Error::local(Code::Unavailable, message);
    }
    let reset = of_http2().any(|error| {
        // The server reset only this stream; the connection is intact.
        error.is_reset() && error.reason() != Some(h2::Reason::REFUSED_STREAM)
    });
    let code = if reset { status.code() } else { Code::Unavailable };
    // tonic's message is only "transport error"; the cause is the last of the chain.
    let cause = causes().last().map_or_else(String::new, ToString::to_string);
    Error::local(code, format!("{}: {cause}", status.message()))
}
