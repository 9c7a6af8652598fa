use std::io::Cursor;

use bytes::Bytes;
use image::{DynamicImage, ImageFormat};
use proptest::prelude::*;

use super::*;
use crate::error::{ErrorKind, ServiceError};

const BASELINE_JPEG: &[u8] = include_bytes!("../../tests/data/baseline.jpg");
const PROGRESSIVE_JPEG: &[u8] = include_bytes!("../../tests/data/progressive.jpg");
const RESTART_JPEG: &[u8] = include_bytes!("../../tests/data/restart.jpg");
const GREY_JPEG: &[u8] = include_bytes!("../../tests/data/grey.jpg");
const CMYK_JPEG: &[u8] = include_bytes!("../../tests/data/cmyk.jpg");

const FORMATS: [ImageFormat; 4] =
    [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::WebP];

fn decode_file(file: &[u8]) -> Result<Picture, ImageError> {
    decode(&ImageSource::Encoded(Bytes::copy_from_slice(file)), &ImageLimits::default())
        .map(|image| image.at_levels(None).into_owned())
}

fn encode(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    image.write_to(&mut file, format).unwrap();
    file.into_inner()
}

fn colourful(width: u32, height: u32) -> DynamicImage {
    image::RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([(x * 7) as u8, (y * 5) as u8, (x * y) as u8])
    })
    .into()
}

/// Makes a PNG of one pixel whose header, with a valid checksum, claims another size.
fn png_claiming(width: u32, height: u32) -> Vec<u8> {
    let mut file = encode(&colourful(1, 1), ImageFormat::Png);
    file[16..20].copy_from_slice(&width.to_be_bytes());
    file[20..24].copy_from_slice(&height.to_be_bytes());
    let mut crc = u32::MAX;
    for &byte in &file[12..29] {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xEDB8_8320 * (crc & 1));
        }
    }
    file[29..33].copy_from_slice(&(!crc).to_be_bytes());
    file
}

#[test]
fn lossless_formats_round_trip_their_pixels() {
    let image = colourful(13, 9);
    for format in FORMATS {
        let picture = decode_file(&encode(&image, format)).unwrap();
        assert_eq!((picture.width, picture.height), (13, 9), "{format:?}");
        assert_eq!(picture.pixels, image.as_bytes(), "{format:?}");
    }
}

#[test]
fn grey_becomes_three_equal_channels() {
    let image = DynamicImage::from(colourful(13, 9).to_luma8());
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Tiff] {
        let picture = decode_file(&encode(&image, format)).unwrap();
        let expected: Vec<u8> = image.as_bytes().iter().flat_map(|&grey| [grey; 3]).collect();
        assert_eq!(picture.pixels, expected, "{format:?}");
    }
}

#[test]
fn alpha_is_dropped_not_composited() {
    let transparent = image::RgbaImage::from_pixel(3, 2, image::Rgba([200, 100, 50, 0]));
    for format in FORMATS {
        let picture = decode_file(&encode(&transparent.clone().into(), format)).unwrap();
        assert_eq!(picture.pixels, [200, 100, 50].repeat(6), "{format:?}");
    }
    let grey = image::GrayAlphaImage::from_pixel(3, 2, image::LumaA([77, 0]));
    assert_eq!(decode_file(&encode(&grey.into(), ImageFormat::Png)).unwrap().pixels, &[77; 18][..]);
}

#[test]
fn sixteen_bits_round_to_eight_over_the_full_range() {
    let values = [0, 128, 129, 257, 32_767, 32_768, 65_406, 65_407, 65_535];
    let expected: Vec<u8> = values.map(|v: u16| (f64::from(v) / 257.0).round() as u8).into();
    let grey = image::ImageBuffer::<image::Luma<u16>, _>::from_raw(9, 1, values.to_vec()).unwrap();
    let colour = image::ImageBuffer::<image::Rgb<u16>, _>::from_raw(3, 1, values.to_vec()).unwrap();
    for format in [ImageFormat::Png, ImageFormat::Tiff] {
        let picture = decode_file(&encode(&grey.clone().into(), format)).unwrap();
        assert_eq!(
            picture.pixels,
            expected.iter().flat_map(|&v| [v; 3]).collect::<Vec<_>>(),
            "{format:?}"
        );
        let picture = decode_file(&encode(&colour.clone().into(), format)).unwrap();
        assert_eq!(picture.pixels, expected, "{format:?}");
    }
}

#[test]
fn truncated_lossless_files_are_rejected() {
    let image = colourful(40, 30);
    for format in FORMATS {
        let file = encode(&image, format);
        for eighth in 1..8 {
            let cut = file.len() * eighth / 8;
            let error = decode_file(&file[..cut]).unwrap_err();
            assert_eq!(
                error.kind(),
                ErrorKind::InvalidArgument,
                "{format:?} cut at {cut}: {error}"
            );
        }
    }
}

#[test]
fn float_tiff_is_rejected() {
    let image =
        DynamicImage::ImageRgb32F(image::ImageBuffer::from_pixel(2, 2, image::Rgb([0.5; 3])));
    let error = decode_file(&encode(&image, ImageFormat::Tiff)).unwrap_err();
    assert_eq!(error.reason(), "IMAGE_UNSUPPORTED");
    assert!(error.to_string().contains("floating-point"), "{error}");
}

#[test]
fn unknown_format_is_rejected_with_the_accepted_ones() {
    assert_eq!(decode_file(b""), Err(ImageError::Empty));
    for file in [&b"hello"[..], b"GIF89a....", b"RIFF....WAVE", b"\0"] {
        let error = decode_file(file).unwrap_err();
        assert_eq!(error.reason(), "IMAGE_FORMAT_UNKNOWN");
        assert_eq!(error.field(), Some("image.encoded"));
        assert!(error.to_string().contains("JPEG, PNG, BMP, TIFF or WebP"), "{error}");
    }
}

#[test]
fn png_that_would_fill_memory_is_rejected() {
    // Sizes are checked before the data, which would otherwise be reported as too short.
    let bomb = png_claiming(50_000, 50_000);
    let error = decode_file(&bomb).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(
        error,
        ImageError::TooManyPixels {
            width: 50_000,
            height: 50_000,
            pixels: 2_500_000_000,
            limit: ImageLimits::default().max_pixels
        }
    );

    let many_pixels = ImageLimits { max_pixels: u64::MAX, ..ImageLimits::default() };
    let error = decode(&ImageSource::Encoded(bomb.into()), &many_pixels).unwrap_err();
    assert_eq!(
        (error.kind(), error.reason()),
        (ErrorKind::InvalidArgument, "IMAGE_TOO_MUCH_MEMORY")
    );
}

#[test]
fn memory_limit_counts_what_decoding_holds_besides_the_picture() {
    let decodes_within = |file: &[u8], max_decoded_bytes| {
        let limits = ImageLimits { max_decoded_bytes, ..ImageLimits::default() };
        decode(&ImageSource::Encoded(Bytes::copy_from_slice(file)), &limits).is_ok()
    };
    let rgb = encode(&colourful(100, 100), ImageFormat::Png);
    let rgba = encode(&colourful(100, 100).to_rgba8().into(), ImageFormat::Png);
    for (file, needed) in [(&rgb[..], 30_000), (&rgba, 70_000), (PROGRESSIVE_JPEG, 75 * 61 * 9)] {
        assert!(!decodes_within(file, needed - 1));
        // A decoder's own memory (windows, chunks) counts against the same limit.
        assert!(decodes_within(file, needed + 100_000));
    }
}

#[test]
fn file_over_the_byte_limit_is_rejected_with_both_numbers() {
    let limits = ImageLimits { max_encoded_bytes: 100, ..ImageLimits::default() };
    let error =
        decode(&ImageSource::Encoded(Bytes::from_static(BASELINE_JPEG)), &limits).unwrap_err();
    assert_eq!(error, ImageError::TooManyBytes { found: BASELINE_JPEG.len(), limit: 100 });
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
}

/// Returns valid files of all formats, to be damaged.
fn valid_files() -> Vec<Vec<u8>> {
    let image = colourful(24, 17);
    let lossless = FORMATS.iter().map(|&format| encode(&image, format));
    let jpegs = [BASELINE_JPEG, PROGRESSIVE_JPEG, RESTART_JPEG, GREY_JPEG, CMYK_JPEG];
    let tiffs: [&[u8]; 2] = [
        include_bytes!("../../tests/data/cases/tiff-fillorder2/tif_fillorder2_1bit.tif"),
        include_bytes!("../../tests/data/cases/tiff-grey-alpha/tif_la.tif"),
    ];
    lossless.chain(jpegs.into_iter().chain(tiffs).map(<[u8]>::to_vec)).collect()
}

/// Decodes under limits too small for a damaged header to allocate much; a panic fails the test.
fn is_error_or_has_matching_sizes(file: &[u8]) -> bool {
    let limits =
        ImageLimits { max_pixels: 1 << 20, max_decoded_bytes: 16 << 20, ..ImageLimits::default() };
    match decode(&ImageSource::Encoded(Bytes::copy_from_slice(file)), &limits) {
        Ok(image) => {
            let picture = image.at_levels(None);
            picture.pixels.len() as u64 == u64::from(picture.width) * u64::from(picture.height) * 3
        }
        Err(_) => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_bytes_after_any_magic_never_break_the_decoder(
        start in prop::sample::select(valid_files()),
        kept in 0_usize..64,
        rest in prop::collection::vec(any::<u8>(), 0..512),
    ) {
        let file = [&start[..kept], &rest].concat();
        prop_assert!(is_error_or_has_matching_sizes(&file));
    }

    #[test]
    fn notes_of_damaged_files_never_break(
        mut file in prop::sample::select(valid_files()),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        for (index, byte) in damage {
            let index = index.index(file.len());
            file[index] = byte;
        }
        prop_assert!(FileNotes::read(&file).pages <= 10);
    }

    #[test]
    fn damaged_files_never_break_the_decoder(
        mut file in prop::sample::select(valid_files()),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        for (index, byte) in damage {
            let index = index.index(file.len());
            file[index] = byte;
        }
        prop_assert!(is_error_or_has_matching_sizes(&file));
    }
}
