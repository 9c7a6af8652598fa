//! Turret's preprocessing against torchvision's, by the files that `make golden` wrote with it.

use std::{io::Cursor, path::Path};

use turret::image::{ImageLimits, ImageSource, Preprocess, Resize, decode};

#[test]
fn centre_crop_equals_torchvisions() {
    for (stem, file) in
        [("wide", "wide.png"), ("tall_grey", "tall_grey.png"), ("camera", "camera.jpg")]
    {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/preprocess");
        let bytes = fs_err::read(folder.join(file)).unwrap();
        let picture = decode(&ImageSource::Encoded(bytes.into()), &ImageLimits::default()).unwrap();
        let preprocess = Preprocess {
            resize: Resize::CentreCrop { resize: 256, crop: 224 },
            ..Preprocess::default()
        };
        let found = preprocess.apply(&picture, None).unwrap().pixels;
        let expected = fs_err::read(folder.join(format!("{stem}.centre_crop.png"))).unwrap();
        let expected =
            image::ImageReader::with_format(Cursor::new(expected), image::ImageFormat::Png);
        let expected = expected.decode().unwrap().to_rgb8().into_raw();
        assert_eq!(found.len(), expected.len());
        let near = found.iter().zip(&expected).filter(|(a, b)| a.abs_diff(**b) <= 1).count();
        let near = near as f64 / found.len() as f64;
        assert!(near >= 0.999, "{file}: the share of bytes at most one level off is {near}");
    }
}
