//! Why an image is rejected.

use std::fmt::Display;

use super::{FileFormat, PixelFormat, Roi, format::ACCEPTED_FORMATS};
use crate::error::{ErrorKind, ServiceError};

/// Why an image, its region or its preprocessing is rejected.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ImageError {
    #[error("the image is empty; send a whole {ACCEPTED_FORMATS} file")]
    Empty,
    #[error(
        "the file has {found} bytes, the limit is {limit}; send a smaller or more compressed image"
    )]
    TooManyBytes { found: usize, limit: usize },
    #[error(
        "unknown image format, the file starts with \"{start}\"; send a {ACCEPTED_FORMATS} file"
    )]
    UnknownFormat { start: String },
    #[error("cannot decode the {format} file: {detail}")]
    Undecodable { format: FileFormat, detail: String },
    #[error(
        "unsupported {format} file: {found}; save it as grey or RGB with 8 or 16 bits per channel, in a \
         common kind of {ACCEPTED_FORMATS}"
    )]
    Unsupported { format: FileFormat, found: String },
    #[error(
        "the image is {width}x{height}, {pixels} pixels, the limit is {limit}; scale it down or \
         split it"
    )]
    TooManyPixels { width: u32, height: u32, pixels: u64, limit: u64 },
    #[error(
        "decoding the {width}x{height} image takes {needed} bytes of memory, the limit is {limit}; \
         send fewer pixels or 8-bit RGB"
    )]
    TooMuchMemory { width: u32, height: u32, needed: u64, limit: u64 },
    #[error("unknown pixel format \"{found}\", expected one of {}", known_pixel_formats())]
    UnknownPixelFormat { found: String },
    #[error("the raw frame is {width}x{height}; width and height must be at least 1")]
    RawFrameEmpty { width: u32, height: u32 },
    #[error(
        "the raw frame's stride is {found} bytes, but a row of {width} {pixel_format} pixels has \
         {row_bytes}; send at least that, or 0 for unpadded rows"
    )]
    RawStrideTooSmall { found: u32, row_bytes: u64, width: u32, pixel_format: PixelFormat },
    #[error(
        "the raw frame has {found} bytes, expected {expected} for {width}x{height} {pixel_format} \
         with a stride of {stride_bytes}, or {expected_unpadded} with its last row unpadded"
    )]
    RawFrameSizeMismatch {
        found: usize,
        expected: u64,
        expected_unpadded: u64,
        width: u32,
        height: u32,
        stride_bytes: u64,
        pixel_format: PixelFormat,
    },
    #[error(
        "the region {roi} of the {width}x{height} image is empty; width and height must be at \
         least 1"
    )]
    RoiEmpty { roi: Roi, width: u32, height: u32 },
    #[error("the region {roi} exceeds the image, {width}x{height} at (0, 0)")]
    RoiOutsideImage { roi: Roi, width: u32, height: u32 },
    #[error(
        "{width}x{height} pixels are too elongated to resize; one side may be at most {limit} \
         times the other"
    )]
    TooElongated { width: u32, height: u32, limit: u32 },
    #[error("preprocessing {field} is {found}; it must be {expected}")]
    InvalidPreprocess { field: &'static str, found: String, expected: &'static str },
    #[error(
        "unknown resize \"{found}\", expected letterbox, centre_crop or stretch, optionally with \
         sizes: letterbox:224, centre_crop:256:224, stretch:224"
    )]
    UnknownResize { found: String },
    #[error(
        "unknown levels \"{found}\", expected BLACK:WHITE with 0 <= BLACK < WHITE <= 65535, such as \
         0:4095 for 12 bits"
    )]
    UnknownLevels { found: String },
    #[error("cannot resize the image: {detail}")]
    ResizeFailed { detail: String },
}

impl ImageError {
    pub(super) fn undecodable(format: FileFormat, detail: impl Display) -> Self {
        Self::Undecodable { format, detail: detail.to_string() }
    }

    pub(super) fn unsupported(format: FileFormat, found: impl Display) -> Self {
        Self::Unsupported { format, found: found.to_string() }
    }
}

fn known_pixel_formats() -> String {
    PixelFormat::ALL.map(PixelFormat::name).join(", ")
}

impl ServiceError for ImageError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Empty
            | Self::TooManyBytes { .. }
            | Self::TooManyPixels { .. }
            | Self::TooMuchMemory { .. }
            | Self::UnknownFormat { .. }
            | Self::Undecodable { .. }
            | Self::Unsupported { .. }
            | Self::UnknownPixelFormat { .. }
            | Self::RawFrameEmpty { .. }
            | Self::RawStrideTooSmall { .. }
            | Self::RawFrameSizeMismatch { .. }
            | Self::RoiEmpty { .. }
            | Self::RoiOutsideImage { .. }
            | Self::TooElongated { .. }
            | Self::InvalidPreprocess { .. }
            | Self::UnknownResize { .. }
            | Self::UnknownLevels { .. } => ErrorKind::InvalidArgument,
            Self::ResizeFailed { .. } => ErrorKind::Internal,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::Empty => "IMAGE_EMPTY",
            Self::TooManyBytes { .. } => "IMAGE_TOO_MANY_BYTES",
            Self::UnknownFormat { .. } => "IMAGE_FORMAT_UNKNOWN",
            Self::Undecodable { .. } => "IMAGE_UNDECODABLE",
            Self::Unsupported { .. } => "IMAGE_UNSUPPORTED",
            Self::TooManyPixels { .. } => "IMAGE_TOO_MANY_PIXELS",
            Self::TooMuchMemory { .. } => "IMAGE_TOO_MUCH_MEMORY",
            Self::UnknownPixelFormat { .. } => "PIXEL_FORMAT_UNKNOWN",
            Self::RawFrameEmpty { .. } => "RAW_FRAME_EMPTY",
            Self::RawStrideTooSmall { .. } => "RAW_STRIDE_TOO_SMALL",
            Self::RawFrameSizeMismatch { .. } => "RAW_FRAME_SIZE_MISMATCH",
            Self::RoiEmpty { .. } => "ROI_EMPTY",
            Self::RoiOutsideImage { .. } => "ROI_OUTSIDE_IMAGE",
            Self::TooElongated { .. } => "IMAGE_TOO_ELONGATED",
            Self::InvalidPreprocess { .. } => "PREPROCESS_INVALID",
            Self::UnknownResize { .. } => "RESIZE_UNKNOWN",
            Self::UnknownLevels { .. } => "LEVELS_UNKNOWN",
            Self::ResizeFailed { .. } => "RESIZE_FAILED",
        }
    }

    fn field(&self) -> Option<&'static str> {
        match self {
            Self::Empty
            | Self::TooManyBytes { .. }
            | Self::UnknownFormat { .. }
            | Self::Undecodable { .. }
            | Self::Unsupported { .. } => Some("image.encoded"),
            Self::TooManyPixels { .. } | Self::TooMuchMemory { .. } | Self::TooElongated { .. } => {
                Some("image")
            }
            Self::UnknownPixelFormat { .. } => Some("image.raw.pixel_format"),
            Self::RawFrameEmpty { .. } => Some("image.raw"),
            Self::RawStrideTooSmall { .. } => Some("image.raw.stride_bytes"),
            Self::RawFrameSizeMismatch { .. } => Some("image.raw.pixels"),
            Self::RoiEmpty { .. } | Self::RoiOutsideImage { .. } => Some("roi"),
            Self::InvalidPreprocess { .. }
            | Self::UnknownResize { .. }
            | Self::UnknownLevels { .. } => Some("preprocess"),
            Self::ResizeFailed { .. } => None,
        }
    }
}
