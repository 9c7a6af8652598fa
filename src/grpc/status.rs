//! The only place where an error becomes a gRPC status.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    error::{ErrorKind, ServiceError},
    metrics,
};

const DOMAIN: &str = "turret";
/// A few forward passes: by then there is room again, or the load is too high to say when.
const RETRY_AFTER: Duration = Duration::from_millis(100);
const OUR_FAULT: &str = "internal error; the server's log has the detail";

/// The gRPC code of each kind of error.
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

/// The same code as a metric's label.
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

/// What the caller may read: everything but the detail of our own faults, which goes to the log.
pub(super) fn message(error: &dyn ServiceError) -> String {
    match error.kind() {
        ErrorKind::Internal => {
            tracing::error!(error = %error, "a request failed by our fault");
            OUR_FAULT.to_owned()
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

/// The status with google.rpc details: ErrorInfo always, BadRequest with a field, RetryInfo where retrying helps.
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
