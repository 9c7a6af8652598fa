//! The accepted file formats and how they are recognised.

use std::fmt;

use super::ImageError;

/// The accepted formats, for error messages.
pub(super) const ACCEPTED_FORMATS: &str = "JPEG, PNG, BMP, TIFF or WebP";

/// The format of an encoded image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileFormat {
    Jpeg,
    Png,
    Bmp,
    Tiff,
    WebP,
}

impl FileFormat {
    /// Recognises the format by the first bytes; names and content types are not trusted.
    pub(super) fn of(file: &[u8]) -> Result<Self, ImageError> {
        match file {
            // Some cameras put stray bytes before the next marker.
            [0xFF, 0xD8, _, ..] => Ok(Self::Jpeg),
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Ok(Self::Png),
            [b'B', b'M', ..] => Ok(Self::Bmp),
            // 42: classic TIFF; 43: BigTIFF. The first two letters give the byte order.
            [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Ok(Self::Tiff),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(Self::WebP),
            _ => {
                let start = file.get(..8).unwrap_or(file).escape_ascii().to_string();
                Err(ImageError::UnknownFormat { start })
            }
        }
    }
}

impl fmt::Display for FileFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::Bmp => "BMP",
            Self::Tiff => "TIFF",
            Self::WebP => "WebP",
        })
    }
}
