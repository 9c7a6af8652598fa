//! The engine's errors: why a picture got no verdict.

use std::{fmt, time::Duration};

use crate::{
    error::{ErrorKind, ServiceError},
    ids::TaskName,
    image::ImageError,
    metrics::Rejection,
};

/// A resource that the queue bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Images,
    Bytes,
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Images => "images",
            Self::Bytes => "bytes",
        })
    }
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    #[error(
        "the queue is full: {in_use} of {limit} {unit} are in use, {needed} more do not fit; \
         try again shortly"
    )]
    QueueFull { unit: Unit, needed: usize, in_use: usize, limit: usize },
    #[error(
        "the queue is full for task {task}: it holds {held} {unit}, {needed} more do not fit into \
         its share of {share}, as only {free} of {limit} are free; try again shortly"
    )]
    TaskShareFull {
        task: TaskName,
        unit: Unit,
        needed: usize,
        held: usize,
        share: usize,
        free: usize,
        limit: usize,
    },
    #[error(
        "the request needs {needed} {unit}, but this server never takes more than {limit} at once"
    )]
    NeverFits { needed: usize, limit: usize, unit: Unit },
    #[error("the deadline passed before the answer was ready; the request was dropped")]
    DeadlinePassed,
    #[error(
        "the deadline is certain to be missed: the answer takes at least {} ms with {ahead} images \
         ahead of it, {} ms are left; set a longer deadline or retry under less load",
        needed.as_millis(), left.as_millis()
    )]
    DeadlineTooNear { needed: Duration, left: Duration, ahead: usize },
    #[error("the server is draining; try another server")]
    Draining,
    #[error("the device does not answer; try another server")]
    DeviceLost,
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The detail is for the log.
    #[error("{detail}")]
    Failed { detail: String },
}

impl ServiceError for EngineError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::QueueFull { .. } | Self::TaskShareFull { .. } => ErrorKind::ResourceExhausted,
            Self::NeverFits { .. } => ErrorKind::OutOfRange,
            Self::DeadlinePassed | Self::DeadlineTooNear { .. } => ErrorKind::DeadlineExceeded,
            Self::Draining | Self::DeviceLost => ErrorKind::Unavailable,
            Self::Image(error) => error.kind(),
            Self::Failed { .. } => ErrorKind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::QueueFull { unit, .. } | Self::TaskShareFull { unit, .. } => match unit {
                Unit::Images => "QUEUE_FULL",
                Unit::Bytes => "QUEUE_BYTES_FULL",
            },
            Self::NeverFits { .. } => "REQUEST_TOO_LARGE",
            Self::DeadlinePassed => "DEADLINE_PASSED",
            Self::DeadlineTooNear { .. } => "DEADLINE_TOO_NEAR",
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
            | Self::TaskShareFull { .. }
            | Self::DeadlinePassed
            | Self::DeadlineTooNear { .. }
            | Self::Draining
            | Self::DeviceLost
            | Self::Failed { .. } => None,
        }
    }
}

impl EngineError {
    /// Returns the metric label of an error caused by a lack of room or time.
    pub fn rejection(&self) -> Option<Rejection> {
        match self {
            Self::QueueFull { unit, .. } | Self::TaskShareFull { unit, .. } => match unit {
                Unit::Images => Some(Rejection::QueueFull),
                Unit::Bytes => Some(Rejection::BytesFull),
            },
            Self::DeadlinePassed | Self::DeadlineTooNear { .. } => Some(Rejection::Deadline),
            Self::Draining => Some(Rejection::Draining),
            Self::DeviceLost => Some(Rejection::DeviceLost),
            Self::NeverFits { .. } | Self::Image(_) | Self::Failed { .. } => None,
        }
    }
}
