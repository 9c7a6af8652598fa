use bytes::Bytes;

use super::*;
use crate::{error::ServiceError, image::Decoded};

const BASELINE: &[u8] = include_bytes!("../../../tests/data/baseline.jpg");
const PROGRESSIVE: &[u8] = include_bytes!("../../../tests/data/progressive.jpg");
const RESTART: &[u8] = include_bytes!("../../../tests/data/restart.jpg");
const GREY: &[u8] = include_bytes!("../../../tests/data/grey.jpg");
const CMYK: &[u8] = include_bytes!("../../../tests/data/cmyk.jpg");
/// Written by `jpegtran -scans`; the others by Pillow.
const SCAN_PER_CHANNEL: &[u8] = include_bytes!("../../../tests/data/scan_per_channel.jpg");

/// Decodes as a request's image, which recognises the format first.
fn decode_file(file: &[u8]) -> Result<Picture, ImageError> {
    let source = crate::image::ImageSource::Encoded(Bytes::copy_from_slice(file));
    match crate::image::decode(&source, &ImageLimits::default())? {
        Decoded::Rgb8(picture) => Ok(picture),
        Decoded::Deep(_) => panic!("a JPEG has 8 bits"),
    }
}

fn position(file: &[u8], marker: u8) -> usize {
    file.windows(2).position(|pair| pair == [0xFF, marker]).unwrap()
}

/// Returns the markers of the segments before the first scan and where each starts.
fn segments(file: &[u8]) -> Vec<(u8, usize)> {
    let mut at = 2;
    let mut found = Vec::new();
    while file[at + 1] != 0xDA {
        found.push((file[at + 1], at));
        at += 2 + usize::from(u16::from_be_bytes([file[at + 2], file[at + 3]]));
    }
    found.push((0xDA, at));
    found
}

fn refusal(file: &[u8]) -> String {
    let error = decode_file(file).unwrap_err();
    assert_eq!(error.reason(), "IMAGE_UNSUPPORTED", "{error}");
    error.to_string()
}

#[test]
fn jpeg_decodes_within_a_few_levels_of_pillow() {
    // From Pillow 13: the mean of all bytes and the pixel at (37, 30).
    for (name, file, mean, pixel) in [
        ("baseline", BASELINE, 128.085, [158, 188, 56]),
        ("progressive", PROGRESSIVE, 128.085, [158, 188, 56]),
        ("restart", RESTART, 128.085, [158, 188, 56]),
        ("scan per channel", SCAN_PER_CHANNEL, 128.085, [158, 188, 56]),
        ("grey", GREY, 128.278, [164; 3]),
    ] {
        let picture = decode_file(file).unwrap();
        assert_eq!((picture.width, picture.height), (75, 61), "{name}");
        let sum: f64 = picture.pixels.iter().map(|&byte| f64::from(byte)).sum();
        assert!((sum / picture.pixels.len() as f64 - mean).abs() < 0.01, "{name}");
        for (found, expected) in picture.pixels[(30 * 75 + 37) * 3..].iter().zip(pixel) {
            assert!(found.abs_diff(expected) <= 1, "{name}: {found} is not {expected}");
        }
    }
}

#[test]
fn jpeg_truncated_anywhere_is_rejected() {
    for file in [BASELINE, PROGRESSIVE, RESTART, GREY, SCAN_PER_CHANNEL] {
        for cut in 1..file.len() {
            let size = file.len();
            assert!(decode_file(&file[..cut]).is_err(), "{cut} of {size} bytes gave a picture");
        }
    }
}

#[test]
fn jpeg_truncated_and_then_closed_is_rejected() {
    for file in [BASELINE, PROGRESSIVE, RESTART, GREY, SCAN_PER_CHANNEL] {
        // The last byte may be all padding.
        for cut in position(file, 0xDA)..file.len() - 3 {
            let closed = [&file[..cut], &[0xFF, 0xD9]].concat();
            let size = file.len();
            assert!(decode_file(&closed).is_err(), "{cut} of {size} bytes gave a picture");
        }
    }
}

#[test]
fn jpeg_with_trailing_data_is_accepted() {
    let trailing = [BASELINE, b"a preview, say", GREY].concat();
    assert_eq!(decode_file(&trailing), decode_file(BASELINE));
}

#[test]
fn stray_and_fill_bytes_between_segments_are_skipped() {
    for stray in [&[0x00][..], &[0xFF, 0xFF, 0xFF], b"\r\n", &[0x12, 0x34, 0x56, 0x00]] {
        for (marker, at) in segments(BASELINE) {
            let file = [&BASELINE[..at], stray, &BASELINE[at..]].concat();
            assert_eq!(decode_file(&file), decode_file(BASELINE), "{stray:?} before {marker:#x}");
        }
        let end = BASELINE.len() - 2;
        let file = [&BASELINE[..end], stray, &BASELINE[end..]].concat();
        assert_eq!(decode_file(&file), decode_file(BASELINE), "{stray:?} before the end");
    }
}

#[test]
fn frame_without_huffman_tables_uses_the_standard_ones() {
    // Pillow writes the standard tables unless told to optimise; MJPEG frames leave them out.
    let segments = segments(BASELINE);
    let mut frame = BASELINE[..2].to_vec();
    for (index, &(marker, at)) in segments.iter().enumerate() {
        let end = segments.get(index + 1).map_or(BASELINE.len(), |&(_, next)| next);
        if marker != 0xC4 {
            frame.extend_from_slice(&BASELINE[at..end]);
        }
    }
    assert!(frame.len() + 400 < BASELINE.len());
    assert_eq!(decode_file(&frame), decode_file(BASELINE));
}

#[test]
fn jfif_marker_outweighs_an_adobe_marker_without_transform() {
    assert_eq!(&BASELINE[2..4], &[0xFF, 0xE0], "the file must start with a JFIF marker");
    let adobe = b"\xFF\xEE\x00\x0EAdobe\x00\x64\x00\x00\x00\x00\x00";
    let end_of_jfif = segments(BASELINE)[1].1;
    let file = [&BASELINE[..end_of_jfif], adobe, &BASELINE[end_of_jfif..]].concat();
    assert_eq!(decode_file(&file), decode_file(BASELINE));
}

#[test]
fn kinds_that_are_not_decoded_are_refused_by_name() {
    assert!(refusal(CMYK).contains("CMYK"));
    let start = position(BASELINE, 0xC0);
    for (offset, value, name) in [
        (1, 0xC3, "lossless"),
        (1, 0xC9, "arithmetic"),
        (1, 0xCA, "arithmetic"),
        (1, 0xC5, "hierarchical"),
        (1, 0xF7, "JPEG-LS"),
        (4, 12, "12 bits"),
    ] {
        let mut file = BASELINE.to_vec();
        file[start + offset] = value;
        let refusal = refusal(&file);
        assert!(refusal.contains(name), "{refusal}");
    }
    let mut without_height = BASELINE.to_vec();
    without_height[start + 5..start + 7].fill(0);
    assert!(refusal(&without_height).contains("DNL"));
}

#[test]
fn jpeg_that_claims_too_many_pixels_is_rejected() {
    let mut file = BASELINE.to_vec();
    let size = position(&file, 0xC0) + 5;
    file[size..size + 4].copy_from_slice(&65_000_u16.to_be_bytes().repeat(2));
    assert_eq!(decode_file(&file).unwrap_err().reason(), "IMAGE_TOO_MANY_PIXELS");
}

#[test]
fn scans_beyond_the_limit_are_rejected() {
    let start = position(SCAN_PER_CHANNEL, 0xDA);
    let length = 2 + position(&SCAN_PER_CHANNEL[start + 2..], 0xDA);
    let again = SCAN_PER_CHANNEL[start..start + length].repeat(MAX_SCANS as usize);
    let file = [&SCAN_PER_CHANNEL[..start], &again, &SCAN_PER_CHANNEL[start..]].concat();
    assert!(refusal(&file).contains("more than 64 scans"));
}
