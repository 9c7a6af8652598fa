//! Pictures with more than 8 bits per channel, until a head's levels make 8 of them.

use std::{borrow::Cow, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{ImageError, source::Picture};

/// A decoded image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    Rgb8(Picture),
    Deep(DeepPicture),
}

/// A picture of 9 to 16 bits per channel: `height` rows of `width` pixels of 1 or 3 samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeepPicture {
    pub width: u32,
    pub height: u32,
    /// 1 (grey) or 3 (RGB).
    pub channels: usize,
    pub bits: u8,
    /// Small samples are bright (TIFF's WhiteIsZero): what becomes of a sample is inverted.
    pub white_is_zero: bool,
    /// As they are stored.
    pub samples: Vec<u16>,
}

/// The samples that become black (0) and white (255); those beyond are clipped.
///
/// Applies to pictures with more than 8 bits per channel only. Written as `[black, white]`. Of a
/// picture whose small samples are bright, they are those that become white and black.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "[u16; 2]", into = "[u16; 2]")]
pub struct Levels {
    pub black: u16,
    pub white: u16,
}

impl Decoded {
    pub const fn width(&self) -> u32 {
        match self {
            Self::Rgb8(picture) => picture.width,
            Self::Deep(picture) => picture.width,
        }
    }

    pub const fn height(&self) -> u32 {
        match self {
            Self::Rgb8(picture) => picture.height,
            Self::Deep(picture) => picture.height,
        }
    }

    /// Returns the picture as RGB8: with `None`, the full range of a deep picture is scaled.
    pub fn at_levels(&self, levels: Option<Levels>) -> Cow<'_, Picture> {
        match self {
            Self::Rgb8(picture) => Cow::Borrowed(picture),
            Self::Deep(picture) => {
                let white = u16::MAX >> (16 - picture.bits);
                Cow::Owned(picture.at_levels(levels.unwrap_or(Levels { black: 0, white })))
            }
        }
    }
}

impl DeepPicture {
    fn at_levels(&self, levels: Levels) -> Picture {
        let mut table = levels.table();
        if self.white_is_zero {
            table.iter_mut().for_each(|value| *value = u8::MAX - *value);
        }
        let last = table.len() - 1;
        let eight = |sample: u16| table[usize::from(sample.saturating_sub(levels.black)).min(last)];
        let pixels: Vec<u8> = match self.channels {
            1 => self.samples.iter().flat_map(|&sample| [eight(sample); 3]).collect(),
            _ => self.samples.iter().map(|&sample| eight(sample)).collect(),
        };
        Picture { width: self.width, height: self.height, pixels: pixels.into() }
    }
}

impl Levels {
    /// Returns the 8 bits of each sample from black to white, rounded to nearest.
    fn table(self) -> Vec<u8> {
        let span = u32::from(self.white.saturating_sub(self.black)).max(1);
        (0..=span).map(|above| ((above * 255 + span / 2) / span) as u8).collect()
    }
}

impl From<[u16; 2]> for Levels {
    fn from([black, white]: [u16; 2]) -> Self {
        Self { black, white }
    }
}

impl From<Levels> for [u16; 2] {
    fn from(Levels { black, white }: Levels) -> Self {
        [black, white]
    }
}

impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.black, self.white)
    }
}

impl FromStr for Levels {
    type Err = ImageError;

    /// Parses `BLACK:WHITE`, such as `0:4095`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers = text.split_once(':').and_then(|(black, white)| {
            Some(Self { black: black.parse().ok()?, white: white.parse().ok()? })
        });
        numbers
            .filter(|levels| levels.black < levels.white)
            .ok_or_else(|| ImageError::UnknownLevels { found: text.to_owned() })
    }
}
