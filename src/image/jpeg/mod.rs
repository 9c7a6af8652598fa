//! Decodes JPEG to RGB8 with libjpeg-turbo, whose pixels other tools have.
//!
//! A file that other tools fill up with grey is refused: every scan must be there to its end.

mod libjpeg;

use super::{ImageError, ImageLimits, Picture, format::FileFormat};
use libjpeg::{Colour, Decoder, Failure};

/// Most scans of a file. Encoders write about 10; thousands are an attack on CPU time.
const MAX_SCANS: i32 = 64;

/// Decodes a baseline, extended sequential or progressive JPEG of 1 (grey) or 3 components.
///
/// # Errors
/// If the file is damaged, truncated or over a limit, or if it is CMYK, YCCK, lossless,
/// hierarchical, arithmetic-coded or of a depth other than 8 bits.
pub(super) fn decode(file: &[u8], limits: &ImageLimits) -> Result<Picture, ImageError> {
    let decoder = Decoder::open(file, MAX_SCANS).map_err(refused)?;
    let header = decoder.header;
    if header.is_arithmetic() {
        return Err(unsupported("it is arithmetic-coded"));
    }
    match header.colour() {
        Colour::Grey | Colour::Rgb => {}
        Colour::Cmyk => return Err(unsupported("it uses CMYK or YCCK colour")),
        Colour::Other => {
            let found = format!("it has {} channels of unknown meaning", header.components);
            return Err(unsupported(&found));
        }
    }
    // Several scans are collected as 16-bit coefficients; a single one decodes to RGB8.
    let coefficient_bytes =
        if header.has_several_scans() { 2 * header.components as u64 } else { 0 };
    let (width, height) = (header.width, header.height);
    let mut pixels = vec![0; limits.check_decoded(width, height, coefficient_bytes)?];
    decoder.read(&mut pixels).map_err(refused)?;
    Ok(Picture { width, height, pixels: pixels.into() })
}

fn refused(failure: Failure) -> ImageError {
    match failure {
        Failure::Damaged(message) => ImageError::undecodable(FileFormat::Jpeg, message),
        Failure::Truncated => ImageError::undecodable(
            FileFormat::Jpeg,
            "it is truncated or damaged: its data ends before the picture is complete",
        ),
        Failure::OutOfMemory => ImageError::undecodable(FileFormat::Jpeg, "out of memory"),
        Failure::TooManyScans => unsupported(&format!("it has more than {MAX_SCANS} scans")),
        Failure::Process(0xC3 | 0xC7 | 0xCB | 0xCF) => unsupported("it is lossless (SOF3)"),
        Failure::Process(0xC9 | 0xCA | 0xCD | 0xCE) => unsupported("it is arithmetic-coded"),
        Failure::Process(0xC5 | 0xC6) => unsupported("it is hierarchical"),
        Failure::Process(0xF7) => unsupported("it is JPEG-LS"),
        Failure::Process(marker) => {
            unsupported(&format!("its coding process is unknown (marker {marker:#04X})"))
        }
        Failure::Precision(bits) => unsupported(&format!("it has {bits} bits per channel")),
        Failure::Sampling => {
            unsupported("its channels are sampled in ratios that are not whole numbers")
        }
        Failure::NoHeight => unsupported("its header has no width or no height (DNL)"),
    }
}

fn unsupported(found: &str) -> ImageError {
    ImageError::unsupported(FileFormat::Jpeg, found)
}

#[cfg(test)]
mod tests;
