//! The pictures of all performance benchmarks: those of `tools/surfaces`, prepared once.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use image::{ExtendedColorType, codecs::jpeg::JpegEncoder};
use turret::image::{ImageLimits, ImageSource, PreparedImage, Preprocess, Resize, decode};

/// Folder that `make` draws them into.
pub(crate) const FOLDER: &str = ".bench/pictures";
/// Side of the pictures in pixels.
pub(crate) const SIDE: u32 = 224;
const JPEG_QUALITY: u8 = 95;

/// Loads a folder of classes, stretched to `side`, in an order that mixes the classes.
///
/// # Errors
/// If the folder has no pictures.
pub(crate) fn load(folder: &Path, side: u32) -> Result<Vec<PreparedImage>> {
    let classes = entries(folder).context("run this with `make`, which draws the pictures")?;
    let mut numbered = Vec::new();
    for class in &classes {
        numbered.extend(entries(class)?.into_iter().enumerate());
    }
    ensure!(!numbered.is_empty(), "there is no picture in {}", folder.display());
    numbered.sort_by_key(|(number, _)| *number);
    let preprocess = Preprocess { resize: Resize::Stretch { size: side }, ..Preprocess::default() };
    let prepare = |(_, path): &(usize, PathBuf)| {
        let source = ImageSource::Encoded(fs_err::read(path)?.into());
        let picture = decode(&source, &ImageLimits::default())?;
        Ok(preprocess.apply(&picture, None)?)
    };
    numbered.iter().map(prepare).collect()
}

/// Encodes a JPEG of quality 95: about 20 KB.
pub(crate) fn jpeg(picture: &PreparedImage) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY);
    encoder.encode(&picture.pixels, picture.side, picture.side, ExtendedColorType::Rgb8)?;
    Ok(bytes)
}

/// Writes the pixels of all pictures, `[N, side, side, 3]` u8, for other engines.
pub(crate) fn write_pixels(pictures: &[PreparedImage], path: &Path) -> Result<()> {
    let pixels: Vec<u8> = pictures.iter().flat_map(|picture| &picture.pixels).copied().collect();
    Ok(fs_err::write(path, pixels)?)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths =
        fs_err::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}
