//! The resizing and normalisation that a head's file prescribes.

use std::{fmt, str::FromStr};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    Decoded, ImageError, Levels, Picture, Roi,
    resize::{centre_crop_offset, cut, longer_side_at, resize_region, shorter_side_at},
};

/// Per-channel RGB mean of ImageNet's training pictures, on a scale of 0 to 1 (torchvision's).
const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Standard deviation on the same scale as [`IMAGENET_MEAN`].
const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];
/// [`IMAGENET_MEAN`] as a pixel, so that letterbox bars are near zero after normalisation.
const PADDING: [u8; 3] = [124, 116, 104];

/// Sides that a base accepts and a batch can hold, in pixels.
const SIDES: std::ops::RangeInclusive<u32> = 32..=1024;
const DEFAULT_SIDE: u32 = 224;
const DEFAULT_CENTRE_CROP: Resize = Resize::CentreCrop { resize: 256, crop: DEFAULT_SIDE };

/// How a picture becomes the input of the base; part of a head and fixed after training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub struct Preprocess {
    pub resize: Resize,
    pub filter: Filter,
    /// Subtracted from each channel (R, G, B) on a scale of 0 to 1.
    pub mean: [f32; 3],
    /// Divides each channel after the subtraction.
    pub std: [f32; 3],
    /// Samples of deeper pictures that become black and white; `None` scales their full range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub levels: Option<Levels>,
}

/// How a picture of any shape becomes a square.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Resize {
    /// Scales the longer side to `size` and pads with ImageNet's mean colour; nothing is cropped.
    Letterbox { size: u32 },
    /// Scales the shorter side to `resize` and keeps the centre `crop` x `crop`.
    ///
    /// Equals torchvision's `Resize` and `CenterCrop`.
    CentreCrop { resize: u32, crop: u32 },
    /// Scales both sides to `size`; nothing is cropped, the aspect ratio is not kept.
    Stretch { size: u32 },
}

/// The resampling filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// Pillow's antialiased `BILINEAR`: a triangle whose support grows as the picture shrinks.
    Bilinear,
}

/// The pixels that the base takes: `side` unpadded rows of `side` RGB8 pixels (HWC).
///
/// The base's input is `(pixel / 255 - mean) / std` per channel.
#[derive(Debug, Clone, PartialEq)]
pub struct PreparedImage {
    pub side: u32,
    pub pixels: Bytes,
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

impl Default for Preprocess {
    /// Returns letterbox at 224, bilinear, with ImageNet's mean and standard deviation.
    fn default() -> Self {
        Self {
            resize: Resize::Letterbox { size: DEFAULT_SIDE },
            filter: Filter::Bilinear,
            mean: IMAGENET_MEAN,
            std: IMAGENET_STD,
            levels: None,
        }
    }
}

impl Preprocess {
    /// Returns the side of the resulting square, in pixels.
    pub const fn side(&self) -> u32 {
        match self.resize {
            Resize::Letterbox { size } | Resize::Stretch { size } => size,
            Resize::CentreCrop { crop, .. } => crop,
        }
    }

    /// Returns the same preprocessing for squares of another side.
    #[must_use]
    pub fn at_side(&self, side: u32) -> Self {
        let resize = match self.resize {
            Resize::Letterbox { .. } => Resize::Letterbox { size: side },
            Resize::Stretch { .. } => Resize::Stretch { size: side },
            Resize::CentreCrop { resize, crop } => {
                Resize::CentreCrop { resize: (resize * side).div_ceil(crop.max(1)), crop: side }
            }
        };
        Self { resize, ..self.clone() }
    }

    /// Takes 8 bits per channel, crops the region, by default the whole picture, and resizes it.
    ///
    /// # Errors
    /// If the region is empty, outside the picture or too elongated, or if
    /// [`validate`](Self::validate) fails.
    pub fn apply(&self, image: &Decoded, roi: Option<Roi>) -> Result<PreparedImage, ImageError> {
        self.validate()?;
        let picture = &*image.at_levels(self.levels);
        let roi = roi.unwrap_or(Roi::whole(picture));
        roi.check_inside(picture)?;
        let side = self.side();
        let pixels = match self.resize {
            Resize::Stretch { size } => {
                resize_region(picture, roi, (size, size), self.filter)?.pixels
            }
            Resize::Letterbox { size } => padded_to(
                size,
                &resize_region(picture, roi, longer_side_at(size, roi), self.filter)?,
            ),
            Resize::CentreCrop { resize, crop } => cropped_to(
                crop,
                &resize_region(picture, roi, shorter_side_at(resize, roi), self.filter)?,
            ),
        };
        Ok(PreparedImage { side, pixels, mean: self.mean, std: self.std })
    }

    /// Checks that sizes are 32 to 1024, a crop fits its source, and the numbers can normalise.
    pub fn validate(&self) -> Result<(), ImageError> {
        let side =
            |field, size: u32| check(SIDES.contains(&size), field, size, "32 to 1024 pixels");
        match self.resize {
            Resize::Letterbox { size } => side("resize.letterbox.size", size)?,
            Resize::Stretch { size } => side("resize.stretch.size", size)?,
            Resize::CentreCrop { resize, crop } => {
                side("resize.centre_crop.resize", resize)?;
                side("resize.centre_crop.crop", crop)?;
                check(crop <= resize, "resize.centre_crop.crop", crop, "at most resize")?;
            }
        }
        for mean in self.mean {
            check(mean.is_finite(), "mean", mean, "finite")?;
        }
        for std in self.std {
            check(std.is_finite() && std > 0.0, "std", std, "finite and above 0")?;
        }
        if let Some(Levels { black, white }) = self.levels {
            check(black < white, "levels.white", white, "above levels.black")?;
        }
        Ok(())
    }

    /// Returns the SHA-256, in hex, of the canonical JSON.
    ///
    /// Canonical: no spaces, fields in declaration order, shortest decimals. Tasks with equal
    /// digests can share a prepared image.
    #[expect(clippy::expect_used, reason = "names and numbers always serialise")]
    pub fn digest(&self) -> String {
        let canonical = serde_json::to_vec(self).expect("names and numbers always serialise");
        hex::encode(Sha256::digest(canonical))
    }
}

fn check(
    holds: bool,
    field: &'static str,
    found: impl fmt::Display,
    expected: &'static str,
) -> Result<(), ImageError> {
    if holds {
        Ok(())
    } else {
        Err(ImageError::InvalidPreprocess { field, found: found.to_string(), expected })
    }
}

/// Centres the picture, at most `side` x `side`, on a square of [`PADDING`].
fn padded_to(side: u32, picture: &Picture) -> Bytes {
    if (picture.width, picture.height) == (side, side) {
        return picture.pixels.clone();
    }
    let (side, width, height) = (side as usize, picture.width as usize, picture.height as usize);
    let (left, top) = ((side - width) / 2, (side - height) / 2);
    let mut square = PADDING.repeat(side * side);
    for (target, row) in
        square.chunks_exact_mut(side * 3).skip(top).zip(picture.pixels.chunks_exact(width * 3))
    {
        target[left * 3..][..width * 3].copy_from_slice(row);
    }
    square.into()
}

/// Crops the centre `side` x `side` of the picture, which is at least as large.
fn cropped_to(side: u32, picture: &Picture) -> Bytes {
    let (x, y) =
        (centre_crop_offset(picture.width, side), centre_crop_offset(picture.height, side));
    cut(picture, Roi { x, y, width: side, height: side }).pixels
}

impl fmt::Display for Resize {
    /// Writes the name, and the sizes where they are not the default.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Letterbox { size: DEFAULT_SIDE } => write!(f, "letterbox"),
            Self::Letterbox { size } => write!(f, "letterbox:{size}"),
            DEFAULT_CENTRE_CROP => write!(f, "centre_crop"),
            Self::CentreCrop { resize, crop } => write!(f, "centre_crop:{resize}:{crop}"),
            Self::Stretch { size: DEFAULT_SIDE } => write!(f, "stretch"),
            Self::Stretch { size } => write!(f, "stretch:{size}"),
        }
    }
}

impl FromStr for Resize {
    type Err = ImageError;

    /// Parses what [`Display`](fmt::Display) writes.
    ///
    /// That is `letterbox`, `centre_crop` or `stretch` (224, 256 -> 224, 224), or a name with sizes
    /// in pixels: `letterbox:320`, `centre_crop:320:288`, `stretch:320`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || ImageError::UnknownResize { found: text.to_owned() };
        let (name, sizes) = match text.split_once(':') {
            None => (text, None),
            Some((name, sizes)) => (name, Some(sizes)),
        };
        let number = |digits: &str| digits.parse::<u32>().map_err(|_| unknown());
        let side = sizes.map_or(Ok(DEFAULT_SIDE), number);
        match name {
            "letterbox" => Ok(Self::Letterbox { size: side? }),
            "stretch" => Ok(Self::Stretch { size: side? }),
            "centre_crop" => match sizes {
                None => Ok(DEFAULT_CENTRE_CROP),
                Some(sizes) => {
                    let (resize, crop) = sizes.split_once(':').ok_or_else(unknown)?;
                    Ok(Self::CentreCrop { resize: number(resize)?, crop: number(crop)? })
                }
            },
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests;
