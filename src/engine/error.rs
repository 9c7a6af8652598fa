//! Why a picture got no verdict.

use crate::{
    error::{ErrorKind, Problem},
    image::ImageError,
};

#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    #[error(
        "the queue is full: {in_use} of {limit} images are waiting, {needed} more do not fit; try again shortly"
    )]
    QueueFull { needed: usize, in_use: usize, limit: usize },
    #[error(
        "the queue is full: {in_use} of {limit} bytes are waiting, {needed} more do not fit; try again shortly"
    )]
    BytesFull { needed: usize, in_use: usize, limit: usize },
    #[error("the request needs {needed} {unit}, more than the {limit} that this server ever takes at once")]
    NeverFits { needed: usize, limit: usize, unit: &'static str },
    #[error("the deadline passed before the answer was there; nothing is computed for it any more")]
    DeadlinePassed,
    #[error("the server is draining; ask another")]
    Draining,
    #[error("the device does not answer; ask another server")]
    DeviceLost,
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The detail is for the log.
    #[error("{detail}")]
    Failed { detail: String },
}

impl Problem for EngineError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::QueueFull { .. } | Self::BytesFull { .. } => ErrorKind::ResourceExhausted,
            Self::NeverFits { .. } => ErrorKind::OutOfRange,
            Self::DeadlinePassed => ErrorKind::DeadlineExceeded,
            Self::Draining | Self::DeviceLost => ErrorKind::Unavailable,
            Self::Image(error) => error.kind(),
            Self::Failed { .. } => ErrorKind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::QueueFull { .. } => "QUEUE_FULL",
            Self::BytesFull { .. } => "QUEUE_BYTES_FULL",
            Self::NeverFits { .. } => "REQUEST_TOO_LARGE",
            Self::DeadlinePassed => "DEADLINE_PASSED",
            Self::Draining => "DRAINING",
            Self::DeviceLost => "DEVICE_LOST",
            Self::Image(error) => error.reason(),
            Self::Failed { .. } => "INTERNAL",
        }
    }

    fn field(&self) -> Option<&'static str> {
        match self {
            Self::Image(error) => error.field(),
            Self::NeverFits { .. } => Some("image"),
            Self::QueueFull { .. }
            | Self::BytesFull { .. }
            | Self::DeadlinePassed
            | Self::Draining
            | Self::DeviceLost
            | Self::Failed { .. } => None,
        }
    }
}

impl EngineError {
    /// The label of `rejected_total`, for errors that come of a want of room or time.
    pub fn rejection(&self) -> Option<&'static str> {
        match self {
            Self::QueueFull { .. } => Some("queue_full"),
            Self::BytesFull { .. } => Some("bytes_full"),
            Self::DeadlinePassed => Some("deadline"),
            Self::Draining => Some("draining"),
            Self::DeviceLost => Some("device_lost"),
            Self::NeverFits { .. } | Self::Image(_) | Self::Failed { .. } => None,
        }
    }
}
