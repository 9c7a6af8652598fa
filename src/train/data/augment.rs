//! Augmented views of a picture: slightly rotated, shifted, and changed in brightness and contrast.
//!
//! No flips and no crops: a flipped object may be a defective one, a crop may remove the defect.

use std::str::FromStr;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::{error::ParseNameError, ids::Digest, image::PreparedImage};

const LIGHT_VIEWS: u32 = 4;
const MAX_DEGREES: f32 = 5.0;
/// As a share of the side.
const MAX_SHIFT: f32 = 0.04;
/// As a share of the value.
const MAX_BRIGHTNESS: f32 = 0.1;
/// As a share of the distance from mid-grey.
const MAX_CONTRAST: f32 = 0.1;
const MID_GREY: f32 = 127.5;

/// Which augmented views are added to each training picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Augment {
    #[default]
    None,
    /// Four: rotation to 5 degrees, shift to 4 % of the side, brightness and contrast to 10 %.
    Light,
}

impl FromStr for Augment {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self::None),
            "light" => Ok(Self::Light),
            _ => Err(ParseNameError::new("augmentation", text, &["none", "light"])),
        }
    }
}

impl Augment {
    /// Returns the number of views per picture, without the picture itself.
    pub const fn views(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Light => LIGHT_VIEWS,
        }
    }
}

/// Returns the digest that names a picture's view in the cache; views count from 1.
///
/// Another recipe needs another name, because the cache outlives it.
pub(crate) fn view_digest(picture: Digest, number: u32) -> Digest {
    Digest::of(format!("light augmentation, recipe 1, view {number} of {picture}").as_bytes())
}

/// Returns the view that [`view_digest`] names, with `name` as the random seed.
///
/// Pixels outside the picture repeat its edge.
pub(crate) fn light_view(image: &PreparedImage, name: Digest) -> PreparedImage {
    let mut random = ChaCha8Rng::from_seed(*name.as_bytes());
    let mut within = |max: f32| random.random_range(-max..=max);
    let angle = within(MAX_DEGREES).to_radians();
    let side = image.side as f32;
    let (shift_x, shift_y) = (within(MAX_SHIFT) * side, within(MAX_SHIFT) * side);
    let (brightness, contrast) = (1.0 + within(MAX_BRIGHTNESS), 1.0 + within(MAX_CONTRAST));
    let (sin, cos) = angle.sin_cos();
    let middle = (side - 1.0) / 2.0;
    let mut pixels = Vec::with_capacity(image.pixels.len());
    for y in 0..image.side {
        for x in 0..image.side {
            let (dx, dy) = (x as f32 - middle - shift_x, y as f32 - middle - shift_y);
            let colour =
                bilinear(image, middle + cos * dx + sin * dy, middle - sin * dx + cos * dy);
            pixels.extend(colour.map(|value| {
                let value = ((value - MID_GREY) * contrast + MID_GREY) * brightness;
                value.round().clamp(0.0, 255.0) as u8
            }));
        }
    }
    PreparedImage { pixels: pixels.into(), ..image.clone() }
}

fn bilinear(image: &PreparedImage, x: f32, y: f32) -> [f32; 3] {
    let last = (image.side - 1) as f32;
    let (x, y) = (x.clamp(0.0, last), y.clamp(0.0, last));
    let (left, top) = (x.floor(), y.floor());
    let (to_right, to_bottom) = (x - left, y - top);
    let at = |x: f32, y: f32, channel: usize| {
        let (x, y) = (x.min(last) as usize, y.min(last) as usize);
        f32::from(image.pixels[(y * image.side as usize + x) * 3 + channel])
    };
    [0, 1, 2].map(|channel| {
        let row =
            |y| at(left, y, channel) * (1.0 - to_right) + at(left + 1.0, y, channel) * to_right;
        row(top) * (1.0 - to_bottom) + row(top + 1.0) * to_bottom
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bright square on a dark background.
    fn image() -> PreparedImage {
        let pixel = |index: u32| {
            let inside = |v: u32| (20..44).contains(&v);
            if inside(index % 64) && inside(index / 64) { [200, 180, 160] } else { [40, 50, 60] }
        };
        PreparedImage {
            side: 64,
            pixels: (0..64 * 64).flat_map(pixel).collect::<Vec<u8>>().into(),
            mean: [0.5; 3],
            std: [0.5; 3],
        }
    }

    fn view(number: u32) -> PreparedImage {
        light_view(&image(), view_digest(Digest::of(b"picture"), number))
    }

    #[test]
    fn views_differ_and_are_reproducible() {
        assert_eq!(view(1), view(1));
        assert_ne!(view(1), view(2));
        assert_ne!(view(1), image());
    }

    #[test]
    fn view_keeps_the_content_nearly_in_place() {
        for number in 1..=20 {
            let view = view(number);
            assert_eq!(view.pixels.len(), image().pixels.len());
            let bright: Vec<usize> =
                (0..64 * 64).filter(|pixel| view.pixels[pixel * 3] > 120).collect();
            // 24 x 24 pixels are bright; rotation and shift change that number only at the edges.
            assert!(
                (500..660).contains(&bright.len()),
                "{} pixels of view {number} are bright",
                bright.len()
            );
            let mean = |of: fn(usize) -> usize| {
                bright.iter().map(|p| of(*p)).sum::<usize>() as f32 / bright.len() as f32
            };
            let centre = [mean(|pixel| pixel % 64), mean(|pixel| pixel / 64)];
            assert!(centre.iter().all(|c| (c - 31.5).abs() < 0.04 * 64.0 + 0.5), "{centre:?}");
        }
    }
}
