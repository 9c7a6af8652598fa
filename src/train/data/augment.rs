//! Views of a picture as another day on the line could have given it: slightly turned, shifted, lighter or darker.
//!
//! No flips and no crops: a flipped part may be a wrong part, and a crop may cut the defect off.

use std::str::FromStr;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::{error::ParseNameError, ids::Digest, image::PreparedImage};

const LIGHT_VIEWS: u32 = 4;
const MOST_DEGREES: f32 = 5.0;
/// Share of the side.
const MOST_SHIFT: f32 = 0.04;
/// Share of the value.
const MOST_BRIGHTNESS: f32 = 0.1;
/// Share of the distance from mid-grey.
const MOST_CONTRAST: f32 = 0.1;
const MID_GREY: f32 = 127.5;

/// Which views of a picture are learned beside the picture itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Augment {
    #[default]
    None,
    /// Four: rotation up to 5 degrees, shift up to 4 % of the side, brightness and contrast up to 10 %.
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
    /// Number of views beside the picture itself.
    pub const fn views(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Light => LIGHT_VIEWS,
        }
    }
}

/// The name of a picture's view, from 1 on, among all features ever kept. Another recipe needs another name here.
pub(crate) fn view_digest(picture: Digest, number: u32) -> Digest {
    Digest::of(format!("light augmentation, recipe 1, view {number} of {picture}").as_bytes())
}

/// What [`view_digest`] names: the same numbers for the same name. Pixels from outside repeat the edge.
pub(crate) fn light_view(image: &PreparedImage, name: Digest) -> PreparedImage {
    let mut random = ChaCha8Rng::from_seed(*name.as_bytes());
    let mut within = |most: f32| random.random_range(-most..=most);
    let angle = within(MOST_DEGREES).to_radians();
    let side = image.side as f32;
    let (shift_x, shift_y) = (within(MOST_SHIFT) * side, within(MOST_SHIFT) * side);
    let (brightness, contrast) = (1.0 + within(MOST_BRIGHTNESS), 1.0 + within(MOST_CONTRAST));
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

    /// A bright square in the middle of darkness.
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
    fn every_view_is_its_own_and_always_the_same() {
        assert_eq!(view(1), view(1));
        assert_ne!(view(1), view(2));
        assert_ne!(view(1), image());
    }

    #[test]
    fn a_view_keeps_what_is_there_nearly_where_it_is() {
        for number in 1..=20 {
            let view = view(number);
            assert_eq!(view.pixels.len(), image().pixels.len());
            let bright: Vec<usize> =
                (0..64 * 64).filter(|pixel| view.pixels[pixel * 3] > 120).collect();
            // 24 x 24 pixels were bright; turning and shifting keeps their number but for the edges.
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
