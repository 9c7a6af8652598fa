//! Parses requests into the crate's own types and validates them.

use std::{collections::HashSet, sync::Arc};

use super::proto;
use crate::{
    engine::EngineError,
    error::{ErrorKind, ServiceError},
    head::Head,
    ids::{Digest, InvalidTaskName, TaskName, Version},
    image::{ImageError, ImageSource, RawFrame, Roi},
    registry::HeadTable,
};

/// Maximum tasks of one request.
pub(super) const MAX_TASKS: usize = 1024;
/// Maximum extras of one request, doubles included.
pub(super) const MAX_EXTRAS: usize = 64;
/// Maximum tasks of a request whose verdicts carry embeddings, each its own copy.
const MAX_EMBEDDINGS: usize = 16;
/// Maximum bytes of `request_id` and of `part_id`.
pub(super) const MAX_ID_BYTES: usize = 128;

/// A valid request, without the heads that answer it.
#[derive(Debug)]
pub(super) struct ParsedRequest {
    pub(super) source: ImageSource,
    pub(super) roi: Option<Roi>,
    pub(super) extras: Extras,
}

/// What the answer carries besides the verdict.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Extras {
    pub(super) logits: bool,
    /// In every verdict.
    pub(super) embedding: bool,
    /// Once for all verdicts that share it.
    pub(super) shared_embedding: bool,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
    #[error("tasks is empty, expected at least one: there is no default task")]
    NoTask,
    #[error("found {found} tasks, expected at most {MAX_TASKS}")]
    TooManyTasks { found: usize },
    #[error("task {task} is named twice")]
    DoubledTask { task: TaskName },
    #[error("{field}: {source}")]
    TaskName { field: &'static str, source: InvalidTaskName },
    #[error("task {task} is not served here{}", did_you_mean(nearest))]
    UnknownTask { task: TaskName, nearest: Vec<TaskName> },
    #[error("image is missing: set image.encoded or image.raw")]
    NoImage,
    #[error("{field} is {found} bytes long, expected at most {MAX_ID_BYTES}")]
    LongId { field: &'static str, found: usize },
    #[error("require_head goes with a single task, found {tasks}")]
    RequireWithManyTasks { tasks: usize },
    #[error(
        "invalid require_head {text:?}, expected a version number or a digest of \
         64 hexadecimal digits"
    )]
    BadRequirement { text: String },
    #[error("head {required} of task {task} is required, but version {version} ({digest}) serves")]
    OtherHeadServes { task: TaskName, required: String, version: Version, digest: Digest },
    #[error("want: {name} is not built in this version of turret, omit it")]
    NotBuilt { name: &'static str },
    #[error(
        "want: EXTRA_EMBEDDING copies features into every verdict and goes with at most \
         {MAX_EMBEDDINGS} tasks, found {tasks}; ask for EXTRA_SHARED_EMBEDDING"
    )]
    TooManyEmbeddings { tasks: usize },
    #[error("want: found {found} extras, expected at most {MAX_EXTRAS}")]
    TooManyExtras { found: usize },
    #[error("want: unknown extra {value}")]
    UnknownExtra { value: i32 },
    #[error("invalid preprocess, expected the JSON of a head's preprocess: {detail}")]
    Preprocess { detail: String },
    #[error("unknown page_token, expected the next_page_token of the answer before, or none")]
    PageToken,
    #[error(
        "the server is receiving {in_use} of {limit} bytes, {needed} more do not fit; \
         try again shortly"
    )]
    ReceivingFull { needed: usize, in_use: usize, limit: usize },
    #[error("the server is starting: the base is not warm yet; try again shortly")]
    Starting,
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

fn did_you_mean(nearest: &[TaskName]) -> String {
    if nearest.is_empty() {
        return String::new();
    }
    let names: Vec<&str> = nearest.iter().map(TaskName::as_str).collect();
    format!("; did you mean {}?", names.join(" or "))
}

impl ServiceError for RequestError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoTask
            | Self::TooManyTasks { .. }
            | Self::DoubledTask { .. }
            | Self::TaskName { .. }
            | Self::NoImage
            | Self::LongId { .. }
            | Self::RequireWithManyTasks { .. }
            | Self::BadRequirement { .. }
            | Self::NotBuilt { .. }
            | Self::TooManyEmbeddings { .. }
            | Self::TooManyExtras { .. }
            | Self::UnknownExtra { .. }
            | Self::PageToken
            | Self::Preprocess { .. } => ErrorKind::InvalidArgument,
            Self::UnknownTask { .. } => ErrorKind::NotFound,
            Self::OtherHeadServes { .. } => ErrorKind::FailedPrecondition,
            Self::ReceivingFull { .. } => ErrorKind::ResourceExhausted,
            Self::Starting => ErrorKind::Unavailable,
            Self::Image(error) => error.kind(),
            Self::Engine(error) => error.kind(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::NoTask => "TASKS_EMPTY",
            Self::TooManyTasks { .. } => "TASKS_TOO_MANY",
            Self::DoubledTask { .. } => "TASK_DOUBLED",
            Self::TaskName { .. } => "TASK_NAME_INVALID",
            Self::UnknownTask { .. } => "TASK_UNKNOWN",
            Self::NoImage => "IMAGE_MISSING",
            Self::LongId { .. } => "ID_TOO_LONG",
            Self::RequireWithManyTasks { .. } => "REQUIRE_HEAD_WITH_MANY_TASKS",
            Self::BadRequirement { .. } => "REQUIRE_HEAD_INVALID",
            Self::OtherHeadServes { .. } => "OTHER_HEAD_SERVES",
            Self::NotBuilt { .. } => "EXTRA_NOT_BUILT",
            Self::TooManyExtras { .. } => "EXTRAS_TOO_MANY",
            Self::TooManyEmbeddings { .. } => "EMBEDDINGS_TOO_MANY",
            Self::UnknownExtra { .. } => "EXTRA_UNKNOWN",
            Self::Preprocess { .. } => "PREPROCESS_INVALID",
            Self::PageToken => "PAGE_TOKEN_INVALID",
            Self::ReceivingFull { .. } => "RECEIVING_FULL",
            Self::Starting => "STARTING",
            Self::Image(error) => error.reason(),
            Self::Engine(error) => error.reason(),
        }
    }

    fn field(&self) -> Option<&'static str> {
        match self {
            Self::NoTask
            | Self::TooManyTasks { .. }
            | Self::DoubledTask { .. }
            | Self::UnknownTask { .. } => Some("tasks"),
            Self::NoImage => Some("image"),
            Self::TaskName { field, .. } | Self::LongId { field, .. } => Some(field),
            Self::RequireWithManyTasks { .. }
            | Self::BadRequirement { .. }
            | Self::OtherHeadServes { .. } => Some("require_head"),
            Self::NotBuilt { .. }
            | Self::TooManyExtras { .. }
            | Self::TooManyEmbeddings { .. }
            | Self::UnknownExtra { .. } => Some("want"),
            Self::Preprocess { .. } => Some("preprocess"),
            Self::PageToken => Some("page_token"),
            Self::ReceivingFull { .. } | Self::Starting => None,
            Self::Image(error) => error.field(),
            Self::Engine(error) => error.field(),
        }
    }
}

/// Returns the heads that the request names, at most [`MAX_TASKS`], all from one snapshot.
///
/// The error of an unknown task comes without names to suggest.
pub(super) fn find_heads(
    names: &[String],
    table: &HeadTable,
) -> Result<Vec<Arc<Head>>, RequestError> {
    if names.is_empty() {
        return Err(RequestError::NoTask);
    }
    let mut seen = HashSet::new();
    let heads = names.iter().map(|name| {
        let task = parse_task("tasks", name)?;
        if !seen.insert(task.clone()) {
            return Err(RequestError::DoubledTask { task });
        }
        match table.get(&task) {
            Some(head) => Ok(head.clone()),
            None => Err(RequestError::UnknownTask { task, nearest: Vec::new() }),
        }
    });
    heads.collect()
}

pub(super) fn parse_task(field: &'static str, name: &str) -> Result<TaskName, RequestError> {
    name.parse().map_err(|source| RequestError::TaskName { field, source })
}

/// Parses the rest of the request; its ids were checked when it was received.
///
/// The picture's bytes are shared, not copied.
pub(super) fn parse(
    request: proto::ClassifyRequest,
    heads: &[Arc<Head>],
) -> Result<ParsedRequest, RequestError> {
    check_requirement(&request.require_head, heads)?;
    let extras = parse_extras(&request.want, heads.len())?;
    let (source, roi) = picture(request.image, request.roi)?;
    Ok(ParsedRequest { source, roi, extras })
}

pub(super) fn check_id_length(field: &'static str, bytes: usize) -> Result<(), RequestError> {
    if bytes > MAX_ID_BYTES {
        return Err(RequestError::LongId { field, found: bytes });
    }
    Ok(())
}

/// Returns the picture and its region of interest; the bytes are shared, not copied.
pub(super) fn picture(
    image: Option<proto::Image>,
    roi: Option<proto::Roi>,
) -> Result<(ImageSource, Option<Roi>), RequestError> {
    let roi = roi.map(|roi| Roi { x: roi.x, y: roi.y, width: roi.width, height: roi.height });
    let source = match image.and_then(|image| image.data).ok_or(RequestError::NoImage)? {
        proto::image::Data::Encoded(bytes) => ImageSource::Encoded(bytes),
        proto::image::Data::Raw(frame) => ImageSource::Raw(RawFrame {
            pixels: frame.pixels,
            width: frame.width,
            height: frame.height,
            stride_bytes: frame.stride_bytes,
            pixel_format: frame.pixel_format.parse()?,
        }),
    };
    Ok((source, roi))
}

fn check_requirement(required: &str, heads: &[Arc<Head>]) -> Result<(), RequestError> {
    if required.is_empty() {
        return Ok(());
    }
    let [head] = heads else {
        return Err(RequestError::RequireWithManyTasks { tasks: heads.len() });
    };
    let serves = if let Ok(version) = required.parse::<Version>() {
        version == head.version
    } else if let Ok(digest) = required.parse::<Digest>() {
        digest == head.digest
    } else {
        let text = required.chars().take(MAX_ID_BYTES).collect();
        return Err(RequestError::BadRequirement { text });
    };
    if serves {
        return Ok(());
    }
    let (version, digest) = (head.version, head.digest);
    Err(RequestError::OtherHeadServes {
        task: head.task.clone(),
        required: required.to_owned(),
        version,
        digest,
    })
}

fn parse_extras(values: &[i32], tasks: usize) -> Result<Extras, RequestError> {
    let mut extras = Extras::default();
    for &value in values {
        match proto::Extra::try_from(value) {
            Ok(proto::Extra::Logits) => extras.logits = true,
            Ok(proto::Extra::Embedding) if tasks > MAX_EMBEDDINGS => {
                return Err(RequestError::TooManyEmbeddings { tasks });
            }
            Ok(proto::Extra::Embedding) => extras.embedding = true,
            Ok(proto::Extra::SharedEmbedding) => extras.shared_embedding = true,
            Ok(proto::Extra::Heatmap) => {
                return Err(RequestError::NotBuilt { name: "EXTRA_HEATMAP" });
            }
            Ok(proto::Extra::Unspecified) | Err(_) => {
                return Err(RequestError::UnknownExtra { value });
            }
        }
    }
    Ok(extras)
}
