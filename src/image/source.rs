//! The image that a caller sends, and the decoded picture that it becomes.

use std::{fmt, str::FromStr};

use bytes::Bytes;

use super::ImageError;

/// An image as it arrives.
#[derive(Debug, Clone)]
pub enum ImageSource {
    /// A whole JPEG, PNG, BMP, TIFF or WebP file.
    Encoded(Bytes),
    /// Uncompressed pixels from a camera.
    Raw(RawFrame),
}

impl ImageSource {
    /// Returns the bytes of the image as it arrived, which admission counts.
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
    /// Bytes from the start of one row to the next; 0 for unpadded rows.
    pub stride_bytes: u32,
    pub pixel_format: PixelFormat,
}

/// A pixel layout, named by the GenICam Pixel Format Naming Convention (PFNC).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PixelFormat {
    Mono8,
    Rgb8,
    Bgr8,
}

impl PixelFormat {
    pub const ALL: [Self; 3] = [Self::Mono8, Self::Rgb8, Self::Bgr8];

    /// Returns the PFNC name.
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

    /// Parses an exact PFNC name; GenICam names are case-sensitive.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        /// A name from the network may be megabytes long: quote only its start.
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

/// A region of interest, in pixels of the source image before resizing.
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

    /// Checks that the region is not empty and lies inside the picture.
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

/// A decoded image: `height` unpadded rows of `width` RGB8 pixels, `width * height * 3` bytes.
///
/// `pixels` shares the request's buffer where that already has this layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    pub width: u32,
    pub height: u32,
    pub pixels: Bytes,
}
