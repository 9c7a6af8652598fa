use super::*;
use crate::error::{ErrorKind, ServiceError};
use crate::image::DeepPicture;

/// Made by Pillow 13 from [`pattern`] of 97x75, resized to 46x36 (`BILINEAR`), cropped at (7, 2).
const PILLOW_CENTRE_CROP: &[u8; 32 * 32 * 3] =
    include_bytes!("../../../tests/data/pillow_centre_crop_36_32.rgb");

fn pattern(width: u32, height: u32) -> Picture {
    let pixel = |x: u32, y: u32| [(x * 7) as u8, (y * 5) as u8, (x * y) as u8];
    let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(x, y))).collect();
    Picture { width, height, pixels }
}

fn with_resize(resize: Resize) -> Preprocess {
    Preprocess { resize, ..Preprocess::default() }
}

fn pixel_at(image: &PreparedImage, x: usize, y: usize) -> &[u8] {
    &image.pixels[(y * image.side as usize + x) * 3..][..3]
}

#[test]
fn centre_crop_matches_pillow_within_one_level() {
    let preprocess = with_resize(Resize::CentreCrop { resize: 36, crop: 32 });
    let found = preprocess.apply(&Decoded::Rgb8(pattern(97, 75)), None).unwrap().pixels;
    let differing = found.iter().zip(PILLOW_CENTRE_CROP).filter(|(a, b)| a != b).count();
    assert!(found.iter().zip(PILLOW_CENTRE_CROP).all(|(a, b)| a.abs_diff(*b) <= 1));
    assert!(differing * 100 < found.len(), "{differing} of {} bytes differ", found.len());
}

#[test]
fn sizes_and_offsets_match_torchvision() {
    let roi = |width, height| Roi { x: 0, y: 0, width, height };
    for (size, expected) in [
        ((333, 257), (331, 256)),
        ((257, 333), (256, 331)),
        ((640, 481), (340, 256)),
        ((97, 301), (256, 794)),
        ((50, 50), (256, 256)),
    ] {
        assert_eq!(shorter_side_at(256, roi(size.0, size.1)), expected, "{size:?}");
    }
    // round(0.5) = 0, round(1.5) = 2, round(2.5) = 2, round(3.5) = 4
    for (side, offset) in [(224, 0), (225, 0), (226, 1), (227, 2), (229, 2), (231, 4), (256, 16)] {
        assert_eq!(centre_crop_offset(side, 224), offset, "{side}");
    }
}

#[test]
fn letterbox_keeps_the_aspect_and_pads_evenly() {
    let white = |width: u32, height: u32| Picture {
        width,
        height,
        pixels: vec![255; width as usize * height as usize * 3].into(),
    };
    let preprocess = Preprocess::default();
    let wide = preprocess.apply(&Decoded::Rgb8(white(400, 200)), None).unwrap();
    assert_eq!(wide.pixels.len(), 224 * 224 * 3);
    for (y, expected) in [
        (0, PADDING),
        (55, PADDING),
        (56, [255; 3]),
        (167, [255; 3]),
        (168, PADDING),
        (223, PADDING),
    ] {
        assert_eq!(pixel_at(&wide, 0, y), expected, "row {y}");
        assert_eq!(pixel_at(&wide, 223, y), expected, "row {y}");
    }
    let tall = preprocess.apply(&Decoded::Rgb8(white(200, 400)), None).unwrap();
    for (x, expected) in [(55, PADDING), (56, [255; 3]), (167, [255; 3]), (168, PADDING)] {
        assert_eq!(pixel_at(&tall, x, 100), expected, "column {x}");
    }
    let thin = preprocess.apply(&Decoded::Rgb8(white(1, 100)), None).unwrap();
    assert_eq!(thin.pixels.chunks_exact(3).filter(|pixel| *pixel == [255; 3]).count(), 2 * 224);
}

#[test]
fn every_resize_fills_the_square_from_any_shape() {
    for resize in
        ["letterbox", "centre_crop", "stretch", "letterbox:32", "centre_crop:32:32", "stretch:1024"]
    {
        let preprocess = with_resize(resize.parse().unwrap());
        for (width, height) in [(1, 1), (1, 100), (100, 1), (223, 225), (301, 97)] {
            let prepared = preprocess.apply(&Decoded::Rgb8(pattern(width, height)), None).unwrap();
            assert_eq!(prepared.side, preprocess.side());
            assert_eq!(prepared.pixels.len(), prepared.side as usize * prepared.side as usize * 3);
        }
    }
}

#[test]
fn region_gives_the_same_as_a_cropped_picture() {
    let picture = pattern(120, 90);
    let roi = Roi { x: 17, y: 5, width: 61, height: 80 };
    let rows = picture.pixels.chunks_exact(120 * 3).skip(5).take(80);
    let pixels = rows.flat_map(|row| &row[17 * 3..78 * 3]).copied().collect();
    let cut = Picture { width: 61, height: 80, pixels };
    for resize in ["letterbox", "centre_crop", "stretch"] {
        let preprocess = with_resize(resize.parse().unwrap());
        assert_eq!(
            preprocess.apply(&Decoded::Rgb8(picture.clone()), Some(roi)),
            preprocess.apply(&Decoded::Rgb8(cut.clone()), None),
            "{resize}"
        );
    }
}

#[test]
fn region_that_is_empty_or_outside_is_rejected() {
    for (x, y, width, height, reason) in [
        (0, 0, 0, 5, "ROI_EMPTY"),
        (0, 0, 5, 0, "ROI_EMPTY"),
        (0, 0, 11, 5, "ROI_OUTSIDE_IMAGE"),
        (6, 0, 5, 5, "ROI_OUTSIDE_IMAGE"),
        (0, 8, 1, 1, "ROI_OUTSIDE_IMAGE"),
        (u32::MAX, 0, 1, 1, "ROI_OUTSIDE_IMAGE"),
        (1, 1, u32::MAX, u32::MAX, "ROI_OUTSIDE_IMAGE"),
    ] {
        let roi = Roi { x, y, width, height };
        let error =
            Preprocess::default().apply(&Decoded::Rgb8(pattern(10, 8)), Some(roi)).unwrap_err();
        assert_eq!((error.reason(), error.field()), (reason, Some("roi")), "{error}");
        assert!(
            error.to_string().contains(&roi.to_string()) && error.to_string().contains("10x8"),
            "{error}"
        );
    }
}

#[test]
fn elongated_picture_that_would_fill_memory_is_rejected() {
    let error = with_resize("stretch".parse().unwrap())
        .apply(&Decoded::Rgb8(pattern(1, 101)), None)
        .unwrap_err();
    assert_eq!((error.kind(), error.reason()), (ErrorKind::InvalidArgument, "IMAGE_TOO_ELONGATED"));
}

#[test]
fn picture_with_wrong_size_is_an_internal_error() {
    let broken = Picture { width: 10, height: 10, pixels: vec![0; 7].into() };
    assert_eq!(
        Preprocess::default().apply(&Decoded::Rgb8(broken.clone()), None).unwrap_err().kind(),
        ErrorKind::Internal
    );
}

#[test]
fn validate_rejects_settings_that_cannot_work() {
    let usual = Preprocess::default();
    assert_eq!(usual.validate(), Ok(()));
    for (preprocess, field) in [
        (with_resize(Resize::Letterbox { size: 31 }), "resize.letterbox.size"),
        (with_resize(Resize::Stretch { size: 1025 }), "resize.stretch.size"),
        (with_resize(Resize::CentreCrop { resize: 224, crop: 225 }), "resize.centre_crop.crop"),
        (with_resize(Resize::CentreCrop { resize: 0, crop: 0 }), "resize.centre_crop.resize"),
        (Preprocess { mean: [0.0, f32::NAN, 0.0], ..usual.clone() }, "mean"),
        (Preprocess { std: [1.0, 0.0, 1.0], ..usual.clone() }, "std"),
        (Preprocess { std: [1.0, 1.0, -1.0], ..usual.clone() }, "std"),
        (Preprocess { std: [f32::INFINITY; 3], ..usual.clone() }, "std"),
    ] {
        let error = preprocess.validate().unwrap_err();
        assert!(
            matches!(error, ImageError::InvalidPreprocess { field: found, .. } if found == field),
            "{error}"
        );
        assert_eq!(preprocess.apply(&Decoded::Rgb8(pattern(4, 4)), None), Err(error));
    }
}

#[test]
fn default_json_and_digest_never_change() {
    // Deployed heads carry both; a change here would orphan them.
    let json = concat!(
        r#"{"resize":{"letterbox":{"size":224}},"filter":"bilinear","#,
        r#""mean":[0.485,0.456,0.406],"std":[0.229,0.224,0.225]}"#
    );
    assert_eq!(serde_json::to_string(&Preprocess::default()).unwrap(), json);
    assert_eq!(serde_json::from_str::<Preprocess>(json).unwrap(), Preprocess::default());
    assert_eq!(
        Preprocess::default().digest(),
        "df83054974d0a1d2efe030da78bfe4a1ee74013e5129505307e1f56ca2973cf5"
    );
    assert_ne!(with_resize(DEFAULT_CENTRE_CROP).digest(), Preprocess::default().digest());
}

#[test]
fn unknown_json_keys_are_rejected() {
    let json = serde_json::to_string(&Preprocess::default()).unwrap();
    for (from, to) in
        [(r#""size":224"#, r#""size":224,"pad":1"#), (r#""filter""#, r#""gamma":2,"filter""#)]
    {
        assert!(serde_json::from_str::<Preprocess>(&json.replacen(from, to, 1)).is_err(), "{to}");
    }
}

#[test]
fn resize_round_trips_through_text() {
    for text in [
        "letterbox",
        "centre_crop",
        "stretch",
        "letterbox:320",
        "centre_crop:320:288",
        "stretch:64",
    ] {
        assert_eq!(text.parse::<Resize>().unwrap().to_string(), text);
    }
    assert_eq!("letterbox:224".parse::<Resize>().unwrap().to_string(), "letterbox");
    assert_eq!("centre_crop".parse(), Ok(Resize::CentreCrop { resize: 256, crop: 224 }));
    for text in
        ["", "Letterbox", "crop", "letterbox:", "letterbox:x", "centre_crop:256", "stretch:1:2"]
    {
        assert_eq!(text.parse::<Resize>().unwrap_err().reason(), "RESIZE_UNKNOWN", "{text:?}");
    }
}

#[test]
fn picture_of_the_right_size_is_neither_resized_nor_copied() {
    let square = pattern(224, 224);
    for resize in [
        Resize::Letterbox { size: 224 },
        Resize::Stretch { size: 224 },
        Resize::CentreCrop { resize: 224, crop: 224 },
    ] {
        let prepared = with_resize(resize).apply(&Decoded::Rgb8(square.clone()), None).unwrap();
        assert_eq!(prepared.pixels.as_ptr(), square.pixels.as_ptr(), "{resize}");
    }
    let roi = Roi { x: 30, y: 20, width: 64, height: 64 };
    let cut = with_resize(Resize::Stretch { size: 64 })
        .apply(&Decoded::Rgb8(square.clone()), Some(roi))
        .unwrap();
    for (x, y) in [(0, 0), (63, 0), (17, 41), (63, 63)] {
        let expected = &square.pixels[((y + 20) * 224 + x + 30) * 3..][..3];
        assert_eq!(pixel_at(&cut, x, y), expected, "{x}, {y}");
    }
}

#[test]
fn levels_scale_deep_pictures_and_clip_beyond_them() {
    let deep = |bits, samples: &[u16]| {
        let samples = samples.to_vec();
        Decoded::Deep(DeepPicture {
            width: samples.len() as u32,
            height: 1,
            channels: 1,
            bits,
            white_is_zero: false,
            samples,
        })
    };
    let greys = |image: &Decoded, levels: Option<Levels>| -> Vec<u8> {
        image.at_levels(levels).pixels.chunks_exact(3).map(|pixel| pixel[0]).collect()
    };
    let twelve_in_sixteen = deep(16, &[0, 99, 100, 2_100, 4_095, 4_100, 65_535]);
    let levels = Some(Levels { black: 100, white: 4_100 });
    assert_eq!(greys(&twelve_in_sixteen, levels), [0, 0, 0, 128, 255, 255, 255]);
    assert_eq!(greys(&twelve_in_sixteen, None), [0, 0, 0, 8, 16, 16, 255]);
    assert_eq!(greys(&deep(12, &[0, 2_048, 4_095]), None), [0, 128, 255]);
    let Decoded::Deep(deep) = twelve_in_sixteen.clone() else { panic!("it is deep") };
    let inverted = Decoded::Deep(DeepPicture { white_is_zero: true, ..deep });
    assert_eq!(greys(&inverted, levels), [255, 255, 255, 127, 0, 0, 0]);
    let eight = Decoded::Rgb8(pattern(5, 4));
    assert_eq!(eight.at_levels(levels).pixels, eight.at_levels(None).pixels);
}

#[test]
fn absent_levels_leave_the_digest_as_it_was() {
    let without = Preprocess::default();
    assert!(!serde_json::to_string(&without).unwrap().contains("levels"));
    let levels = Some(Levels { black: 0, white: 4_095 });
    let with = Preprocess { levels, ..without.clone() };
    assert_ne!(with.digest(), without.digest());
    let json = serde_json::to_string(&with).unwrap();
    assert!(json.ends_with(r#""levels":[0,4095]}"#), "{json}");
    assert_eq!(serde_json::from_str::<Preprocess>(&json).unwrap(), with);
    let equal = Levels { black: 9, white: 9 };
    let error = Preprocess { levels: Some(equal), ..without }.validate().unwrap_err();
    assert!(error.to_string().contains("levels.white"), "{error}");
}
