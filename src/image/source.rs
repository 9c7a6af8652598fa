//! What a caller hands over, and the decoded picture it becomes.

use std::{fmt, str::FromStr};

use bytes::Bytes;

use super::ImageError;

/// An image as it arrives.
#[derive(Debug, Clone)]
pub enum ImageSource {
    /// A whole JPEG, PNG, BMP, TIFF or WebP file.
    Encoded(Bytes),
    /// Pixels straight from a camera.
    Raw(RawFrame),
}

impl ImageSource {
    /// Bytes that the image occupies as it arrived; what an admission budget counts.
    pub fn len_bytes(&self) -> usize {
        match self {
            Self::Encoded(file) => file.len(),
            Self::Raw(frame) => frame.pixels.len(),
        }
    }
}

/// Uncompressed rows of pixels, the top row first.
#[derive(Debug, Clone)]
pub struct RawFrame {
    pub pixels: Bytes,
    pub width: u32,
    pub height: u32,
    /// Bytes from the start of a row to the start of the next; 0: rows are packed tight.
    pub stride_bytes: u32,
    pub pixel_format: PixelFormat,
}

/// How a camera lays out a pixel, under the names of the GenICam Pixel Format Naming Convention (PFNC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PixelFormat {
    Mono8,
    Rgb8,
    Bgr8,
}

impl PixelFormat {
    pub const ALL: [Self; 3] = [Self::Mono8, Self::Rgb8, Self::Bgr8];

    /// The PFNC name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mono8 => "Mono8",
            Self::Rgb8 => "RGB8",
            Self::Bgr8 => "BGR8",
        }
    }

    pub const fn bytes_per_pixel(self) -> u32 {
        match self {
            Self::Mono8 => 1,
            Self::Rgb8 | Self::Bgr8 => 3,
        }
    }
}

impl FromStr for PixelFormat {
    type Err = ImageError;

    /// Takes exactly the PFNC names: GenICam tells names apart by case too.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        /// A name from the network may be megabytes long; what is quoted back is not.
        const QUOTED_CHARACTERS: usize = 40;
        Self::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| {
            ImageError::UnknownPixelFormat { found: name.chars().take(QUOTED_CHARACTERS).collect() }
        })
    }
}

impl fmt::Display for PixelFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Region of interest, in pixels of the source image, before any resizing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Roi {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

impl Roi {
    pub(super) const fn whole(picture: &Picture) -> Self {
        Self { x: 0, y: 0, width: picture.width, height: picture.height }
    }

    /// That the region has pixels and that all of them are in the picture.
    pub(super) fn check_inside(self, picture: &Picture) -> Result<(), ImageError> {
        let (width, height) = (picture.width, picture.height);
        if self.width == 0 || self.height == 0 {
            return Err(ImageError::RoiEmpty { roi: self, width, height });
        }
        let ends_inside = |start: u32, length: u32, side: u32| {
            start.checked_add(length).is_some_and(|end| end <= side)
        };
        if ends_inside(self.x, self.width, width) && ends_inside(self.y, self.height, height) {
            Ok(())
        } else {
            Err(ImageError::RoiOutsideImage { roi: self, width, height })
        }
    }
}

impl fmt::Display for Roi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{} at ({}, {})", self.width, self.height, self.x, self.y)
    }
}

/// A decoded image: `height` rows of `width` RGB8 pixels, packed tight; `pixels` has `width * height * 3`
/// bytes, which are the request's own where these are that already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    pub width: u32,
    pub height: u32,
    pub pixels: Bytes,
}
