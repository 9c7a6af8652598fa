//! The number of the way from a picture's file to its features.

/// Identifies what decoding, resizing, views and pooling give for the same file.
///
/// Raised whenever pixels or features change, and part of the cache's path: features of two
/// pipelines never mix. 1: zune-jpeg. 2: libjpeg-turbo, TIFF assembled here, levels.
pub const PIPELINE: u32 = 2;

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{
        ids::Digest,
        image::{ImageLimits, ImageSource, Levels, Preprocess, decode},
        train::data::augment::{light_view, view_digest},
    };

    /// Returns the digest of the pixels of all ways to prepare a file, and of its views.
    fn pixels_of(file: &str) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(file);
        let bytes = fs_err::read(path).unwrap();
        let name = Digest::of(&bytes);
        let image = decode(&ImageSource::Encoded(bytes.into()), &ImageLimits::default()).unwrap();
        let mut all = Vec::new();
        for resize in ["letterbox:64", "centre_crop:72:64", "stretch:64"] {
            for levels in [None, Some(Levels { black: 16, white: 4_095 })] {
                let resize = resize.parse().unwrap();
                let preprocess = Preprocess { resize, levels, ..Preprocess::default() };
                let prepared = preprocess.apply(&image, None).unwrap();
                all.extend_from_slice(&prepared.pixels);
                let view = light_view(&prepared, view_digest(name, 1));
                all.extend_from_slice(&view.pixels);
            }
        }
        Digest::of(&all).short().to_string()
    }

    #[test]
    fn pixels_of_this_pipeline_are_the_golden_ones() {
        // If this fails and the new pixels are right, raise PIPELINE with the digests.
        let found = [
            "data/baseline.jpg",
            "data/progressive.jpg",
            "data/grey.jpg",
            "data/cases/jpeg-luma-below-chroma/sw_samp_1x1-1x1-2x1.jpg",
            "data/cases/tiff-tiled-lzw/tif_tiled_lzw_be.tif",
            "data/cases/tiff-grey-alpha/tif_la.tif",
            "golden/preprocess/tall_grey.png",
        ]
        .map(pixels_of);
        let golden = [
            "fa436351a6c9",
            "0d1a86c33476",
            "08b0be6fd6cb",
            "df1dafab42e5",
            "841ce186eca1",
            "42162035f452",
            "407b74f6af11",
        ];
        assert_eq!((PIPELINE, found), (2, golden.map(str::to_owned)));
    }
}
