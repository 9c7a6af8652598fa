//! Decodes any image source to RGB8.

use std::{io::Cursor, panic};

use image::{
    ExtendedColorType, ImageDecoder, ImageFormat, ImageReader, Limits, error::UnsupportedErrorKind,
};

use super::{FileFormat, ImageError, ImageLimits, ImageSource, Picture, jpeg, raw};

const ODD_SAMPLES: &str = "its samples are floating-point or of a size other than 8 and 16 bits";

/// Decodes an image to RGB8; the module's documentation has the rules of conversion.
///
/// # Errors
/// If the image is damaged, of an unknown or unsupported format, or over the limits. A decoder that
/// panics on hostile bytes counts as an undecodable image.
pub fn decode(source: &ImageSource, limits: &ImageLimits) -> Result<Picture, ImageError> {
    let file = match source {
        ImageSource::Raw(frame) => return raw::decode(frame, limits),
        ImageSource::Encoded(file) => file,
    };
    if file.is_empty() {
        return Err(ImageError::Empty);
    }
    limits.check_encoded(file.len())?;
    let format = FileFormat::of(file)?;
    panic::catch_unwind(|| match format {
        FileFormat::Jpeg => jpeg::decode(file, limits),
        FileFormat::Png => decode_with_image_crate(file, format, ImageFormat::Png, limits),
        FileFormat::Bmp => decode_with_image_crate(file, format, ImageFormat::Bmp, limits),
        FileFormat::Tiff => decode_with_image_crate(file, format, ImageFormat::Tiff, limits),
        FileFormat::WebP => decode_with_image_crate(file, format, ImageFormat::WebP, limits),
    })
    .unwrap_or_else(|_| Err(ImageError::undecodable(format, "it is damaged")))
}

/// Decodes the formats that the `image` crate handles.
fn decode_with_image_crate(
    file: &[u8],
    format: FileFormat,
    image_format: ImageFormat,
    limits: &ImageLimits,
) -> Result<Picture, ImageError> {
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
    if matches!(decoder.original_color_type(), ExtendedColorType::Cmyk8 | ExtendedColorType::Cmyk16)
    {
        return Err(ImageError::unsupported(format, "it uses CMYK colour"));
    }
    let samples_held = match (format, channels, sample_bytes) {
        (FileFormat::Tiff, _, _) => 2, // the decoder fills its own buffer first
        (_, 3, 1) => 0,                // the samples are the picture
        _ => 1,
    };
    let pixel_bytes = channels * sample_bytes;
    let picture_bytes = limits.check_decoded(width, height, samples_held * pixel_bytes as u64)?;

    let mut samples = vec![0; picture_bytes / 3 * pixel_bytes];
    decoder.read_image(&mut samples).map_err(rejected)?;
    if sample_bytes == 2 {
        narrow_to_8_bits(&mut samples);
    }
    let pixels = match channels {
        3 => samples,
        1 | 2 => samples.chunks_exact(channels).flat_map(|pixel| [pixel[0]; 3]).collect(),
        _ => samples
            .chunks_exact(channels)
            .flat_map(|pixel| [pixel[0], pixel[1], pixel[2]])
            .collect(),
    };
    Ok(Picture { width, height, pixels: pixels.into() })
}

/// Replaces native-endian 16-bit samples by 8-bit ones, rounded to nearest: 65535 / 257 = 255.
fn narrow_to_8_bits(samples: &mut Vec<u8>) {
    let count = samples.len() / 2;
    for i in 0..count {
        let wide = u32::from(u16::from_ne_bytes([samples[2 * i], samples[2 * i + 1]]));
        samples[i] = ((wide + 128) / 257) as u8;
    }
    samples.truncate(count);
}
