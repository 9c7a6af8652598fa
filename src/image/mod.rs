//! The image front door: bytes as they arrive become the pixels that the base wants.
//!
//! The way of an image through here, in order:
//! 1. [`ImageSource`]: an encoded file, told apart by its first bytes and never by a name, or a raw camera
//!    frame.
//! 2. [`decode`]: the header is read and [`ImageLimits`] are checked before anything is allocated; then the
//!    source becomes a [`Picture`], always RGB with 8 bits per channel.
//! 3. [`Preprocess::apply`]: the region of interest is cut out, resized and placed as the head says; what comes
//!    out is a square [`PreparedImage`]. `fine-tune` and the server run this same code, and it is deterministic.
//!
//! How other pixels become RGB8: grey is repeated in three equal channels; alpha is dropped, not composited,
//! as Pillow's `convert("RGB")` does; 16 bits become 8 by `(v + 128) / 257`, the full range scaled and never
//! clipped. EXIF orientation and ICC profiles are ignored, as torchvision and Pillow do unless told
//! otherwise. Of a file with several pictures the first is taken.

mod decode;
mod error;
mod format;
mod jpeg;
mod limits;
mod preprocess;
mod raw;
mod resize;
mod source;

pub use decode::decode;
pub use error::ImageError;
pub use format::FileFormat;
pub use limits::ImageLimits;
pub use preprocess::{Filter, PreparedImage, Preprocess, Resize};
pub use source::{ImageSource, Picture, PixelFormat, RawFrame, Roi};

#[cfg(test)]
mod tests;
