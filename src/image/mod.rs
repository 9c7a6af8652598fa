//! Turns incoming image bytes into the pixels that the base takes.
//!
//! An image passes through, in order:
//! 1. [`ImageSource`]: an encoded file, recognised by its first bytes and never by a name, or a raw
//!    camera frame.
//! 2. [`decode`]: reads the header and checks [`ImageLimits`] before anything is allocated, then
//!    makes a [`Picture`], RGB with 8 bits per channel, or a [`DeepPicture`] with more.
//! 3. [`Preprocess::apply`]: makes 8 bits per channel of more by the head's [`Levels`], crops the
//!    region of interest, then resizes and places it as the head says. The result is a square
//!    [`PreparedImage`]. `fine-tune` and the server run this same, deterministic code.
//!
//! Pixels are those of libjpeg-turbo, libpng, libtiff and libwebp, or the file is refused by name.
//! Conversion to RGB8: grey is repeated in three equal channels. Alpha is dropped, not composited,
//! as in Pillow's `convert("RGB")`; colours that were multiplied by it are divided. Without levels,
//! the full range of deeper pictures is scaled: 16 bits become 8 by `(v + 128) / 257`. EXIF
//! orientation and ICC profiles are ignored, the default of torchvision and Pillow. Of a file with
//! several pictures, the first is used that is not a reduced copy of another.

mod decode;
mod deep;
mod error;
mod format;
mod jpeg;
mod limits;
mod memory;
mod notes;
mod preprocess;
mod raw;
mod resize;
mod source;
mod tiff;

pub use decode::decode;
pub use deep::{Decoded, DeepPicture, Levels};
pub use error::ImageError;
pub use format::FileFormat;
pub use limits::ImageLimits;
pub use memory::{DecodeBudget, DecodeMemory, DecodeShare};
pub use notes::FileNotes;
pub use preprocess::{Filter, PreparedImage, Preprocess, Resize};
pub use source::{ImageSource, Picture, PixelFormat, RawFrame, Roi};

#[cfg(test)]
mod tests;
