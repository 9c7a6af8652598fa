//! Decoded pixels beside those of libjpeg-turbo, libpng, libtiff and libwebp.
//!
//! `make golden` writes the archive, and `make parity` a larger one, which `TURRET_DECODERS` names.
//! `tools/parity/decoders.py` says where the pictures come from.

use std::{collections::BTreeMap, path::PathBuf};

use safetensors::SafeTensors;
use serde::Deserialize;
use turret::image::{Decoded, ImageError, ImageLimits, ImageSource, decode};

#[derive(Debug, Deserialize)]
struct Case {
    name: String,
    /// The tensor of the file's bytes, without its suffix.
    file: String,
    /// The tensor of its pixels, without its suffix; `None` where no reference has any.
    pixels: Option<String>,
    /// Largest difference of a channel.
    tolerance: u8,
    refusal: Refusal,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Refusal {
    Never,
    Allowed,
    Required,
}

fn archive() -> PathBuf {
    std::env::var_os("TURRET_DECODERS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/decoders.safetensors")),
        PathBuf::from,
    )
}

#[test]
fn pixels_equal_the_references_or_the_file_is_refused_by_name() {
    let bytes = fs_err::read(archive()).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let cases = header.metadata().as_ref().unwrap()["cases"].as_str();
    let cases: Vec<Case> = serde_json::from_str(cases).unwrap();
    assert!(cases.len() >= 300, "the archive has {} cases", cases.len());
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut refused: BTreeMap<String, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in &cases {
        let file = tensors.tensor(&format!("{}.file", case.file)).unwrap();
        let expected = case.pixels.as_ref().map(|name| {
            let pixels = tensors.tensor(&format!("{name}.pixels")).unwrap();
            (pixels.shape()[1], pixels.shape()[0], pixels.data())
        });
        let source = ImageSource::Encoded(file.data().to_vec().into());
        match decode(&source, &ImageLimits::default()) {
            Ok(image) => wrong.extend(difference(case, &image, expected)),
            Err(error @ ImageError::Unsupported { .. }) if case.refusal != Refusal::Never => {
                *refused.entry(error.to_string()).or_default() += 1;
            }
            Err(error) => wrong.push(format!("{}: {error}", case.name)),
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    for (name, count) in refused {
        println!("{count} refused: {name}");
    }
}

fn difference(
    case: &Case,
    image: &Decoded,
    expected: Option<(usize, usize, &[u8])>,
) -> Option<String> {
    let name = &case.name;
    let Some((width, height, expected)) = expected else {
        return Some(format!("{name}: gave a picture, must be refused"));
    };
    if case.refusal == Refusal::Required {
        return Some(format!("{name}: gave a picture, must be refused"));
    }
    let picture = image.at_levels(None);
    if (picture.width as usize, picture.height as usize) != (width, height) {
        let (found, other) = (picture.width, picture.height);
        return Some(format!("{name}: {found}x{other}, expected {width}x{height}"));
    }
    let largest = picture.pixels.iter().zip(expected).map(|(a, b)| a.abs_diff(*b)).max();
    (largest > Some(case.tolerance)).then(|| format!("{name}: differs by {largest:?}"))
}

#[test]
fn inputs_that_came_out_wrong_decode_to_the_expected_pixels() {
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/cases"));
    let decoded = |path: PathBuf| {
        let bytes = fs_err::read(path).unwrap();
        decode(&ImageSource::Encoded(bytes.into()), &ImageLimits::default()).unwrap()
    };
    for (input, mean_tolerance) in [
        ("jpeg-jfif-adobe-transform0/scene.jpg", 0.1),
        // The expected picture is the one that was compressed.
        ("jpeg-luma-below-chroma/sw_samp_1x1-1x1-2x1.jpg", 3.0),
        ("tiff-fillorder2/tif_fillorder2_1bit.tif", 0.0),
        ("tiff-grey-alpha/tif_la.tif", 0.0),
        ("tiff-tiled-lzw/tif_tiled_lzw_be.tif", 0.0),
    ] {
        let path = root.join(input);
        let expected = decoded(path.with_file_name("expected.png")).at_levels(None).into_owned();
        let found = decoded(path).at_levels(None).into_owned();
        assert_eq!((found.width, found.height), (expected.width, expected.height), "{input}");
        let pairs = found.pixels.iter().zip(&expected.pixels);
        let sum: u64 = pairs.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        let mean = sum as f64 / found.pixels.len() as f64;
        assert!(mean <= mean_tolerance, "{input} differs by {mean} of 255");
    }
}
