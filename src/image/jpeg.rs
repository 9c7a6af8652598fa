//! Decodes JPEG to RGB8 with zune-jpeg; a truncated file is an error, never a half-grey picture.

use std::fmt::Display;

use zune_core::{bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions};
use zune_jpeg::JpegDecoder;

use super::{ImageError, ImageLimits, Picture, format::FileFormat};

/// Most scans of a progressive file. Encoders write about 10; thousands are an attack on CPU time.
const MAX_SCANS: usize = 64;

/// Appended to the scan data, so that a decoder that reads past its end fails.
///
/// Each line of `FF 00` is sixteen 1-bits that the last code may take as its extra bits, and
/// sixteen that JPEG forbids as a Huffman code (ITU-T T.81, annex C). The restart marker `FF D0`
/// between them is for data truncated where a restart was due; `FF D9` ends the image.
const GUARD: [u8; 20] = [
    0xFF, 0x00, 0xFF, 0x00, 0xFF, 0x00, 0xFF, 0x00, //
    0xFF, 0xD0, //
    0xFF, 0x00, 0xFF, 0x00, 0xFF, 0x00, 0xFF, 0x00, //
    0xFF, 0xD9,
];

/// Decodes a baseline, extended sequential or progressive JPEG of 1 (grey) or 3 components.
///
/// # Errors
/// If the file is damaged, truncated, CMYK, YCCK, sequential with several scans, or over a limit.
pub(super) fn decode(file: &[u8], limits: &ImageLimits) -> Result<Picture, ImageError> {
    let mut header = decoder_of(file);
    header.decode_headers().map_err(undecodable)?;
    let info = header.info().ok_or_else(|| undecodable("the header is incomplete"))?;
    let components = info.components;
    if components != 1 && components != 3 {
        let found = if components == 4 {
            "it uses CMYK or YCCK colour"
        } else {
            "it does not have 1 or 3 channels"
        };
        return Err(ImageError::unsupported(FileFormat::Jpeg, found));
    }

    let progressive = info.sof.is_progressive();
    // Progressive files are collected as 16-bit coefficients; a sequential scan decodes to RGB8.
    let coefficient_bytes = if progressive { 2 * u64::from(components) } else { 0 };
    let (width, height) = (u32::from(info.width), u32::from(info.height));
    let picture_bytes = limits.check_decoded(width, height, coefficient_bytes)?;

    let end =
        if progressive { end_of_scans(file, None)? } else { end_of_scans(file, Some(components))? };
    let guarded = [&file[..end], &GUARD].concat();
    let mut pixels = vec![0; picture_bytes];
    decoder_of(&guarded).decode_into(&mut pixels).map_err(undecodable)?;
    Ok(Picture { width, height, pixels: pixels.into() })
}

fn decoder_of(file: &[u8]) -> JpegDecoder<ZCursor<&[u8]>> {
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::from(u16::MAX)) // the format's limit; ours are checked on the header
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_max_scans(MAX_SCANS)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    JpegDecoder::new_with_options(ZCursor::new(file), options)
}

/// Returns the position of the marker after the last scan, by walking from marker to marker.
///
/// The decoder stops at the end-of-image marker and fills missing data before it with grey, as in
/// files that were truncated and then closed. Cutting here and appending [`GUARD`] makes that an
/// error.
///
/// `only_scan_of` is the component count of a sequential JPEG, which must have a single scan:
/// zune-jpeg 0.5 gives wrong pixels for several scans with 4:2:0 subsampling. It is `None` for a
/// progressive JPEG, whose scans continue to the end-of-image marker.
fn end_of_scans(file: &[u8], only_scan_of: Option<u8>) -> Result<usize, ImageError> {
    let truncated = || undecodable("it is truncated: its data ends before the end-of-image marker");
    let byte = |at: usize| file.get(at).copied().ok_or_else(truncated);
    let mut scan_seen = false;
    let mut at = 0;
    loop {
        at += file
            .get(at..)
            .and_then(|rest| rest.iter().position(|&b| b == 0xFF))
            .ok_or_else(truncated)?;
        match byte(at + 1)? {
            // A fill byte before a marker.
            0xFF => at += 1,
            // Stuffed data bytes, TEM, RST0 to RST7 and SOI have no segment.
            0x00 | 0x01 | 0xD0..=0xD8 => at += 2,
            _ if scan_seen && only_scan_of.is_some() => return Ok(at),
            0xD9 => return Ok(at),
            marker => {
                if marker == 0xDA {
                    scan_seen = true;
                    let components_in_scan = byte(at + 4)?;
                    if only_scan_of.is_some_and(|components| components != components_in_scan) {
                        return Err(ImageError::unsupported(
                            FileFormat::Jpeg,
                            "it has a separate scan for each channel (save it interleaved or \
                             progressive)",
                        ));
                    }
                }
                at += 2 + usize::from(u16::from_be_bytes([byte(at + 2)?, byte(at + 3)?]));
            }
        }
    }
}

fn undecodable(detail: impl Display) -> ImageError {
    ImageError::undecodable(FileFormat::Jpeg, detail)
}
