//! Maps errors to gRPC statuses.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    error::{ErrorKind, ServiceError},
    metrics,
};

const DOMAIN: &str = "turret";
/// A few forward passes: by then there is room, unless the load is too high to predict.
const RETRY_AFTER: Duration = Duration::from_millis(100);
const INTERNAL_MESSAGE: &str = "internal error, see the server's log";

/// Returns the gRPC code of a kind of error.
pub fn to_code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::InvalidArgument => Code::InvalidArgument,
        ErrorKind::OutOfRange => Code::OutOfRange,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::FailedPrecondition => Code::FailedPrecondition,
        ErrorKind::ResourceExhausted => Code::ResourceExhausted,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::Cancelled => Code::Cancelled,
        ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Unimplemented => Code::Unimplemented,
        ErrorKind::Internal => Code::Internal,
    }
}

/// Returns the same code as a metric's label.
pub(super) fn metrics_code(kind: ErrorKind) -> metrics::Code {
    match kind {
        ErrorKind::InvalidArgument => metrics::Code::InvalidArgument,
        ErrorKind::OutOfRange => metrics::Code::OutOfRange,
        ErrorKind::NotFound => metrics::Code::NotFound,
        ErrorKind::FailedPrecondition => metrics::Code::FailedPrecondition,
        ErrorKind::ResourceExhausted => metrics::Code::ResourceExhausted,
        ErrorKind::DeadlineExceeded => metrics::Code::DeadlineExceeded,
        ErrorKind::Cancelled => metrics::Code::Cancelled,
        ErrorKind::Unavailable => metrics::Code::Unavailable,
        ErrorKind::Unimplemented => metrics::Code::Unimplemented,
        ErrorKind::Internal => metrics::Code::Internal,
    }
}

/// Returns what the caller may read; the details of internal errors go to the log instead.
pub(super) fn message(error: &dyn ServiceError) -> String {
    match error.kind() {
        ErrorKind::Internal => {
            tracing::error!(error = %error, "request failed with an internal error");
            INTERNAL_MESSAGE.to_owned()
        }
        ErrorKind::InvalidArgument
        | ErrorKind::OutOfRange
        | ErrorKind::NotFound
        | ErrorKind::FailedPrecondition
        | ErrorKind::ResourceExhausted
        | ErrorKind::DeadlineExceeded
        | ErrorKind::Cancelled
        | ErrorKind::Unavailable
        | ErrorKind::Unimplemented => error.to_string(),
    }
}

/// Builds the status with its google.rpc details.
///
/// ErrorInfo always, BadRequest with a field at fault, RetryInfo with RESOURCE_EXHAUSTED.
pub(super) fn to_status(error: &dyn ServiceError) -> Status {
    let message = message(error);
    let mut details = ErrorDetails::new();
    details.set_error_info(error.reason(), DOMAIN, []);
    if let Some(field) = error.field() {
        details.add_bad_request_violation(field, &message);
    }
    if error.kind() == ErrorKind::ResourceExhausted {
        details.set_retry_info(Some(RETRY_AFTER));
    }
    Status::with_error_details(to_code(error.kind()), message, details)
}
