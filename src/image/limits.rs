//! Limits on one image, checked from its header before its pixels are allocated.

use super::{DecodeMemory, ImageError};

/// Bytes per RGB8 pixel.
const RGB8_BYTES: u64 = 3;

/// Limits on one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageLimits {
    /// Bytes of an encoded file.
    pub max_encoded_bytes: usize,
    /// Width times height.
    pub max_pixels: u64,
    /// Bytes that decoding holds at once: the source's samples and the RGB8 picture made from them.
    ///
    /// A source that decodes straight to RGB8 holds only the latter.
    pub max_decoded_bytes: u64,
    /// Where that memory is taken from; decoding waits until it is there.
    pub memory: DecodeMemory,
}

impl Default for ImageLimits {
    /// Returns 64 MiB encoded, 100 megapixels, 512 MiB decoded.
    fn default() -> Self {
        Self {
            max_encoded_bytes: 64 << 20,
            max_pixels: 100_000_000,
            max_decoded_bytes: 512 << 20,
            memory: DecodeMemory::default(),
        }
    }
}

impl ImageLimits {
    pub(super) fn check_encoded(&self, found: usize) -> Result<(), ImageError> {
        if found > self.max_encoded_bytes {
            return Err(ImageError::TooManyBytes { found, limit: self.max_encoded_bytes });
        }
        Ok(())
    }

    /// Checks the size that a header claims and returns the bytes of the RGB8 picture.
    ///
    /// It takes the memory that decoding holds, and waits until it is there.
    ///
    /// `source_bytes_per_pixel` is what decoding holds besides the RGB8 picture.
    pub(super) fn check_decoded(
        &self,
        width: u32,
        height: u32,
        source_bytes_per_pixel: u64,
    ) -> Result<usize, ImageError> {
        let pixels = u64::from(width) * u64::from(height);
        if pixels > self.max_pixels {
            return Err(ImageError::TooManyPixels {
                width,
                height,
                pixels,
                limit: self.max_pixels,
            });
        }
        let needed = pixels.saturating_mul(RGB8_BYTES + source_bytes_per_pixel);
        let too_much_memory =
            || ImageError::TooMuchMemory { width, height, needed, limit: self.max_decoded_bytes };
        if needed > self.max_decoded_bytes {
            return Err(too_much_memory());
        }
        let picture_bytes = usize::try_from(pixels * RGB8_BYTES).map_err(|_| too_much_memory())?;
        self.memory.take(needed);
        Ok(picture_bytes)
    }
}
