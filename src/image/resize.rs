//! Pillow-compatible resizing, and the sizes and offsets of torchvision and letterboxing.

use std::fmt::Display;

use fast_image_resize::{
    FilterType, IntoImageView, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{CroppedImage, Image, ImageRef},
};

use super::{Filter, ImageError, Picture, Roi};

/// Largest ratio of the sides: beyond it, the intermediate picture could dwarf the source.
const MAX_ELONGATION: u32 = 100;

/// Resizes a region of a picture to `width` x `height` RGB8 pixels.
///
/// Pixels outside the region do not bleed in. A region that already has this size is left as it is.
///
/// Pillow resizes rows first and rounds to 8 bits before it resizes columns; fast_image_resize
/// starts with columns. Two calls of one direction each give Pillow's order.
pub(super) fn resize_region(
    picture: &Picture,
    roi: Roi,
    (width, height): (u32, u32),
    filter: Filter,
) -> Result<Picture, ImageError> {
    let (long, short) = (roi.width.max(roi.height), roi.width.min(roi.height));
    if u64::from(long) > u64::from(short) * u64::from(MAX_ELONGATION) {
        return Err(ImageError::TooElongated {
            width: roi.width,
            height: roi.height,
            limit: MAX_ELONGATION,
        });
    }
    if (roi.width, roi.height) == (width, height) {
        return Ok(cut(picture, roi));
    }
    let source = ImageRef::new(picture.width, picture.height, &picture.pixels, PixelType::U8x3)
        .map_err(failed)?;
    let region = CroppedImage::new(&source, roi.x, roi.y, roi.width, roi.height).map_err(failed)?;
    let resized_rows = resized(&region, width, roi.height, filter)?;
    let pixels = resized(&resized_rows, width, height, filter)?.into_vec();
    Ok(Picture { width, height, pixels: pixels.into() })
}

/// Crops the region, without a copy if it is the whole picture.
pub(super) fn cut(picture: &Picture, roi: Roi) -> Picture {
    if roi == Roi::whole(picture) {
        return picture.clone();
    }
    let (left, width) = (roi.x as usize * 3, roi.width as usize * 3);
    let rows = picture.pixels.chunks_exact(picture.width as usize * 3);
    let rows = rows.skip(roi.y as usize).take(roi.height as usize);
    let pixels: Vec<u8> = rows.flat_map(|row| &row[left..][..width]).copied().collect();
    Picture { width: roi.width, height: roi.height, pixels: pixels.into() }
}

fn resized(
    source: &impl IntoImageView,
    width: u32,
    height: u32,
    filter: Filter,
) -> Result<Image<'static>, ImageError> {
    let algorithm = match filter {
        Filter::Bilinear => ResizeAlg::Convolution(FilterType::Bilinear),
    };
    let mut target = Image::new(width, height, PixelType::U8x3);
    let options = ResizeOptions::new().resize_alg(algorithm).use_alpha(false);
    Resizer::new().resize(source, &mut target, &options).map_err(failed)?;
    Ok(target)
}

fn failed(detail: impl Display) -> ImageError {
    ImageError::ResizeFailed { detail: detail.to_string() }
}

/// Scales the shorter side to `size`, truncates the longer: `torchvision.transforms.Resize(size)`.
pub(super) fn shorter_side_at(size: u32, roi: Roi) -> (u32, u32) {
    let longer =
        |long: u32, short: u32| (u64::from(size) * u64::from(long) / u64::from(short)) as u32;
    if roi.width <= roi.height {
        (size, longer(roi.height, roi.width))
    } else {
        (longer(roi.width, roi.height), size)
    }
}

/// Scales the longer side to `size` and rounds the shorter half up, to at least 1.
pub(super) fn longer_side_at(size: u32, roi: Roi) -> (u32, u32) {
    let shorter = |short: u32, long: u32| {
        let (size, short, long) = (u64::from(size), u64::from(short), u64::from(long));
        ((2 * size * short + long) / (2 * long)).max(1) as u32
    };
    if roi.width <= roi.height {
        (shorter(roi.width, roi.height), size)
    } else {
        (size, shorter(roi.height, roi.width))
    }
}

/// Returns the offset of a centre crop; `crop` is at most `side`.
///
/// Python's `round((side - crop) / 2.0)`, half to even, as in `torchvision.transforms.CenterCrop`.
pub(super) fn centre_crop_offset(side: u32, crop: u32) -> u32 {
    let surplus = side - crop;
    let half = surplus / 2;
    half + surplus % 2 * (half % 2)
}
