//! What a file says about its picture besides the pixels; training warns of it.

use std::io::Cursor;

use exif::{In, Tag};
use png::BitDepth;

use super::{FileFormat, tiff};

/// What a file says about its picture besides the pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileNotes {
    /// The EXIF orientation, 2 to 8; `None` if the picture is upright or does not say.
    pub orientation: Option<u32>,
    /// Full pictures in the file; 0 if it does not say.
    pub pages: usize,
    /// Whether samples have more than 8 bits.
    pub is_deep: bool,
    /// The largest sample that the file declares: sBIT of PNG, MaxSampleValue or depth of TIFF.
    pub declared_max: Option<u16>,
}

impl FileNotes {
    /// Reads headers only; a file that is not a picture has no notes.
    pub fn read(file: &[u8]) -> Self {
        let Ok(format) = FileFormat::of(file) else { return Self::default() };
        let notes = match format {
            FileFormat::Png => png_notes(file),
            FileFormat::Tiff => tiff::notes(file),
            FileFormat::Jpeg | FileFormat::Bmp | FileFormat::WebP => Self::default(),
        };
        Self { orientation: orientation(file), ..notes }
    }
}

fn orientation(file: &[u8]) -> Option<u32> {
    let mut reader = exif::Reader::new();
    // One broken pointer must not hide the orientation before it.
    let tags = reader
        .continue_on_error(true)
        .read_from_container(&mut Cursor::new(file))
        .or_else(|error| error.distill_partial_result(|_broken| {}))
        .ok()?;
    let value = tags.get_field(Tag::Orientation, In::PRIMARY)?.value.get_uint(0)?;
    (2..=8).contains(&value).then_some(value)
}

fn png_notes(file: &[u8]) -> FileNotes {
    let Ok(reader) = png::Decoder::new(Cursor::new(file)).read_info() else {
        return FileNotes::default();
    };
    let info = reader.info();
    let is_deep = info.bit_depth == BitDepth::Sixteen;
    let significant = info.sbit.as_ref().and_then(|bits| bits.iter().copied().max());
    let declared_max = significant
        .filter(|bits| is_deep && (1..=16).contains(bits))
        .map(|bits| u16::MAX >> (16 - bits));
    FileNotes { is_deep, declared_max, ..FileNotes::default() }
}

#[cfg(test)]
mod tests {
    use image::{DynamicImage, ImageEncoder, codecs::png::PngEncoder};

    use super::*;

    const UPRIGHT: &[u8] = include_bytes!("../../tests/data/baseline.jpg");

    /// An EXIF segment (JEITA CP-3451, 4.5) with one tag, the orientation.
    fn exif(orientation: u8) -> Vec<u8> {
        let tiff =
            [b"MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0", &[orientation][..], &[0; 6]];
        tiff.concat()
    }

    #[test]
    fn orientation_is_read_from_jpeg_and_png() {
        let segment = [b"\xFF\xE1\0\x22Exif\0\0", &exif(6)[..]].concat();
        let jpeg = [&UPRIGHT[..2], &segment, &UPRIGHT[2..]].concat();
        assert_eq!(FileNotes::read(&jpeg).orientation, Some(6));
        assert_eq!(FileNotes::read(UPRIGHT).orientation, None);
        // The offset of the next directory, the last four bytes, leads nowhere.
        let mut broken = exif(6);
        let end = broken.len();
        broken[end - 4..].fill(0xEE);
        let segment = [b"\xFF\xE1\0\x22Exif\0\0", &broken[..]].concat();
        let jpeg = [&UPRIGHT[..2], &segment, &UPRIGHT[2..]].concat();
        assert_eq!(FileNotes::read(&jpeg).orientation, Some(6));
        let mut png = Vec::new();
        let mut encoder = PngEncoder::new(&mut png);
        encoder.set_exif_metadata(exif(3)).unwrap();
        let pixels = DynamicImage::new_rgb8(4, 4);
        encoder.write_image(pixels.as_bytes(), 4, 4, pixels.color().into()).unwrap();
        assert_eq!(FileNotes::read(&png).orientation, Some(3));
    }

    #[test]
    fn significant_bits_of_a_png_are_declared() {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, 1, 1);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(BitDepth::Sixteen);
        let mut writer = encoder.write_header().unwrap();
        writer.write_chunk(png::chunk::sBIT, &[12]).unwrap();
        writer.write_image_data(&[0x0F, 0xFF]).unwrap();
        drop(writer);
        let notes = FileNotes::read(&file);
        assert_eq!((notes.is_deep, notes.declared_max), (true, Some(4_095)));
    }

    #[test]
    fn rubbish_has_no_notes() {
        for file in [&b""[..], b"II*\0", b"\x89PNG\r\n\x1A\n", &UPRIGHT[..20], b"hello"] {
            assert_eq!(FileNotes::read(file), FileNotes::default(), "{file:?}");
        }
    }
}
