//! The closed list of ways in which a request can fail.
//!
//! Every module has its own error enum with the facts as fields; what callers need from it (a kind, a stable reason and
//! the field of the request at fault) comes through [`Problem`]. Only the edge turns a kind into a gRPC code.

/// What a caller has to do about an error. The edge maps each kind to exactly one gRPC code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is wrong and will stay wrong: mend it.
    InvalidArgument,
    /// The request is more than this server ever takes at once: both numbers are in the message.
    OutOfRange,
    /// There is no such task.
    NotFound,
    /// The request named a head that is not the one serving.
    FailedPrecondition,
    /// No room now: retry after a short pause.
    ResourceExhausted,
    /// The caller's deadline passed before the answer could be given.
    DeadlineExceeded,
    /// The caller went away.
    Cancelled,
    /// Starting, draining or the device is lost: retry elsewhere.
    Unavailable,
    /// The method is part of the protocol but not of this build.
    Unimplemented,
    /// Our fault: callers get a generic text, the log has the detail.
    Internal,
}

/// What an error tells the caller of a request.
pub trait Problem: std::error::Error {
    fn kind(&self) -> ErrorKind;

    /// Stable name in SCREAMING_SNAKE_CASE for programs; never changes once released.
    fn reason(&self) -> &'static str;

    /// The field of the request at fault, under its protocol name.
    fn field(&self) -> Option<&'static str> {
        None
    }
}
