//! Decodes any image source to RGB8.

use std::{io::Cursor, panic};

use image::{ImageDecoder, ImageFormat, ImageReader, Limits, error::UnsupportedErrorKind};

use super::{
    Decoded, DeepPicture, FileFormat, ImageError, ImageLimits, ImageSource, Picture, jpeg, raw,
    tiff,
};

const ODD_SAMPLES: &str = "its samples are floating-point or of a size other than 8 and 16 bits";

/// Decodes an image; the module's documentation has the rules of conversion.
///
/// # Errors
/// If the image is damaged, of an unknown or unsupported format, or over the limits. A decoder that
/// panics on hostile bytes counts as an undecodable image.
pub fn decode(source: &ImageSource, limits: &ImageLimits) -> Result<Decoded, ImageError> {
    let file = match source {
        ImageSource::Raw(frame) => return raw::decode(frame, limits).map(Decoded::Rgb8),
        ImageSource::Encoded(file) => file,
    };
    if file.is_empty() {
        return Err(ImageError::Empty);
    }
    limits.check_encoded(file.len())?;
    let format = FileFormat::of(file)?;
    panic::catch_unwind(|| match format {
        FileFormat::Jpeg => jpeg::decode(file, limits).map(Decoded::Rgb8),
        FileFormat::Png => decode_with_image_crate(file, format, ImageFormat::Png, limits),
        FileFormat::Bmp => decode_with_image_crate(file, format, ImageFormat::Bmp, limits),
        FileFormat::Tiff => tiff::decode(file, limits),
        FileFormat::WebP => decode_with_image_crate(file, format, ImageFormat::WebP, limits),
    })
    .unwrap_or_else(|_| Err(ImageError::undecodable(format, "it is damaged")))
}

/// Decodes PNG, BMP and WebP.
fn decode_with_image_crate(
    file: &[u8],
    format: FileFormat,
    image_format: ImageFormat,
    limits: &ImageLimits,
) -> Result<Decoded, ImageError> {
    let rejected = |error| {
        let image::ImageError::Unsupported(what) = error else {
            return ImageError::undecodable(format, error);
        };
        if matches!(what.kind(), UnsupportedErrorKind::Color(_)) {
            ImageError::unsupported(format, ODD_SAMPLES)
        } else {
            ImageError::unsupported(format, what)
        }
    };
    let mut decoder_limits = Limits::default();
    decoder_limits.max_alloc = Some(limits.max_decoded_bytes);
    let mut reader = ImageReader::with_format(Cursor::new(file), image_format);
    reader.limits(decoder_limits);
    let decoder = reader.into_decoder().map_err(rejected)?;

    let (width, height) = decoder.dimensions();
    let color = decoder.color_type();
    let channels = usize::from(color.channel_count());
    let sample_bytes = usize::from(color.bytes_per_pixel()) / channels;
    if sample_bytes > 2 {
        return Err(ImageError::unsupported(format, ODD_SAMPLES));
    }
    let samples_held = match (channels, sample_bytes) {
        (3, 1) => 0, // they are the picture
        (_, 1) => 1,
        _ => 2, // as read, and as kept
    };
    let pixel_bytes = channels * sample_bytes;
    let picture_bytes = limits.check_decoded(width, height, samples_held * pixel_bytes as u64)?;

    let mut samples = vec![0; picture_bytes / 3 * pixel_bytes];
    decoder.read_image(&mut samples).map_err(rejected)?;
    if sample_bytes == 2 {
        return Ok(Decoded::Deep(deep(width, height, channels, &samples)));
    }
    let pixels = match channels {
        3 => samples,
        1 | 2 => samples.chunks_exact(channels).flat_map(|pixel| [pixel[0]; 3]).collect(),
        _ => samples
            .chunks_exact(channels)
            .flat_map(|pixel| [pixel[0], pixel[1], pixel[2]])
            .collect(),
    };
    Ok(Decoded::Rgb8(Picture { width, height, pixels: pixels.into() }))
}

/// Reads native-endian 16-bit samples and drops alpha.
fn deep(width: u32, height: u32, channels: usize, samples: &[u8]) -> DeepPicture {
    let samples: Vec<u16> =
        samples.as_chunks().0.iter().map(|&pair| u16::from_ne_bytes(pair)).collect();
    let colours = if channels < 3 { 1 } else { 3 };
    let samples = if channels == colours {
        samples
    } else {
        samples.chunks_exact(channels).flat_map(|pixel| &pixel[..colours]).copied().collect()
    };
    DeepPicture { width, height, channels: colours, bits: 16, white_is_zero: false, samples }
}
