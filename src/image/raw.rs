//! Converts raw camera frames to RGB8.

use super::{ImageError, ImageLimits, Picture, PixelFormat, RawFrame};

/// Converts a raw frame to RGB8.
///
/// # Errors
/// If a side is 0, the stride is shorter than a row, the frame is over the limits, or the buffer is
/// not `stride * height` bytes. The last row's padding may be left out.
pub(super) fn decode(frame: &RawFrame, limits: &ImageLimits) -> Result<Picture, ImageError> {
    let RawFrame { ref pixels, width, height, stride_bytes, pixel_format } = *frame;
    if width == 0 || height == 0 {
        return Err(ImageError::RawFrameEmpty { width, height });
    }
    let picture_bytes = limits.check_decoded(width, height, 0)?;

    let row_bytes = u64::from(width) * u64::from(pixel_format.bytes_per_pixel());
    let stride = if stride_bytes == 0 { row_bytes } else { u64::from(stride_bytes) };
    if stride < row_bytes {
        return Err(ImageError::RawStrideTooSmall {
            found: stride_bytes,
            row_bytes,
            width,
            pixel_format,
        });
    }
    let expected = stride.saturating_mul(u64::from(height));
    let expected_unpadded = expected.saturating_sub(stride - row_bytes);
    if !(expected_unpadded..=expected).contains(&(pixels.len() as u64)) {
        return Err(ImageError::RawFrameSizeMismatch {
            found: pixels.len(),
            expected,
            expected_unpadded,
            width,
            height,
            stride_bytes: stride,
            pixel_format,
        });
    }

    if matches!(pixel_format, PixelFormat::Rgb8) && stride == row_bytes {
        return Ok(Picture { width, height, pixels: pixels.clone() });
    }
    let mut rgb = Vec::with_capacity(picture_bytes);
    // Both casts fit: as checked above, neither exceeds the length of the buffer.
    for padded_row in pixels.chunks(stride as usize) {
        let row = &padded_row[..row_bytes as usize];
        match pixel_format {
            PixelFormat::Mono8 => rgb.extend(row.iter().flat_map(|&grey| [grey; 3])),
            PixelFormat::Rgb8 => rgb.extend_from_slice(row),
            PixelFormat::Bgr8 => {
                rgb.extend(row.as_chunks().0.iter().flat_map(|&[b, g, r]| [r, g, b]))
            }
        }
    }
    Ok(Picture { width, height, pixels: rgb.into() })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::error::ServiceError;

    fn decode_frame(
        pixels: &[u8],
        (width, height): (u32, u32),
        stride_bytes: u32,
        pixel_format: PixelFormat,
    ) -> Result<Vec<u8>, ImageError> {
        let pixels = Bytes::copy_from_slice(pixels);
        let frame = RawFrame { pixels, width, height, stride_bytes, pixel_format };
        decode(&frame, &ImageLimits::default()).map(|picture| picture.pixels.to_vec())
    }

    #[test]
    fn pixel_format_parses_exact_pfnc_names() {
        for format in PixelFormat::ALL {
            assert_eq!(format.name().parse(), Ok(format));
        }
        let error = "rgb8".parse::<PixelFormat>().unwrap_err();
        assert_eq!(
            (error.reason(), error.field()),
            ("PIXEL_FORMAT_UNKNOWN", Some("image.raw.pixel_format"))
        );
        assert!(error.to_string().contains("Mono8, RGB8, BGR8"), "{error}");
    }

    #[test]
    fn every_pixel_format_converts_to_rgb() {
        let tight = [1, 2, 3, 4, 5, 6];
        assert_eq!(decode_frame(&tight, (2, 1), 0, PixelFormat::Rgb8).unwrap(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(decode_frame(&tight, (2, 1), 0, PixelFormat::Bgr8).unwrap(), [3, 2, 1, 6, 5, 4]);
        assert_eq!(
            decode_frame(&tight[..2], (1, 2), 0, PixelFormat::Mono8).unwrap(),
            [1, 1, 1, 2, 2, 2]
        );
    }

    #[test]
    fn unpadded_rgb_frame_is_not_copied() {
        let pixels = Bytes::from_static(&[1, 2, 3, 4, 5, 6]);
        let frame = RawFrame {
            pixels: pixels.clone(),
            width: 2,
            height: 1,
            stride_bytes: 6,
            pixel_format: PixelFormat::Rgb8,
        };
        let picture = decode(&frame, &ImageLimits::default()).unwrap();
        assert_eq!(picture.pixels.as_ptr(), pixels.as_ptr());
    }

    #[test]
    fn row_padding_is_skipped_and_optional_after_the_last_row() {
        let padded = [1, 2, 9, 9, 3, 4, 9, 9];
        for length in 6..=8 {
            let pixels = decode_frame(&padded[..length], (2, 2), 4, PixelFormat::Mono8).unwrap();
            assert_eq!(pixels, [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]);
        }
    }

    #[test]
    fn frame_with_contradictory_numbers_is_rejected() {
        for (length, size, stride, reason) in [
            (5, (2, 2), 4, "RAW_FRAME_SIZE_MISMATCH"),
            (9, (2, 2), 4, "RAW_FRAME_SIZE_MISMATCH"),
            (0, (2, 2), 0, "RAW_FRAME_SIZE_MISMATCH"),
            (8, (2, 2), u32::MAX, "RAW_FRAME_SIZE_MISMATCH"),
            (8, (2, 2), 1, "RAW_STRIDE_TOO_SMALL"),
            (8, (0, 2), 0, "RAW_FRAME_EMPTY"),
            (8, (2, 0), 0, "RAW_FRAME_EMPTY"),
            (8, (u32::MAX, u32::MAX), 0, "IMAGE_TOO_MANY_PIXELS"),
            (8, (10_001, 10_000), 0, "IMAGE_TOO_MANY_PIXELS"),
        ] {
            let error =
                decode_frame(&[0; 9][..length], size, stride, PixelFormat::Mono8).unwrap_err();
            assert_eq!(
                error.reason(),
                reason,
                "{length} bytes, {size:?}, stride {stride}: {error}"
            );
        }
    }

    #[test]
    fn size_mismatch_error_has_all_numbers() {
        let error = decode_frame(&[0; 7], (2, 3), 4, PixelFormat::Mono8).unwrap_err().to_string();
        for number in ["7 bytes", "2x3 Mono8", "stride of 4", "12", "10"] {
            assert!(error.contains(number), "{number:?} is not in: {error}");
        }
    }
}
