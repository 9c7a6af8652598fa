//! Looks at all pictures before training: which levels deep ones use, and what may surprise.

use std::{path::PathBuf, str::FromStr};

use rayon::prelude::*;

use super::{
    data::{PictureFile, decode_picture, read_picture},
    progress::Warning,
};
use crate::image::{Decoded, FileNotes, ImageError, Levels};

/// Which levels a head applies to pictures with more than 8 bits per channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LevelsChoice {
    /// Those that the training pictures tell.
    #[default]
    Auto,
    /// The full range of the samples.
    Full,
    Fixed(Levels),
}

impl FromStr for LevelsChoice {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "full" => Ok(Self::Full),
            levels => levels.parse().map(Self::Fixed),
        }
    }
}

/// What the training pictures have in common.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    oriented: Found,
    paged: Found,
    deep: Vec<DeepSamples>,
}

/// How many pictures have something, and the first of them.
#[derive(Debug, Default)]
struct Found {
    pictures: usize,
    first: Option<PathBuf>,
}

/// The samples of a picture with more than 8 bits per channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct DeepSamples {
    max: u16,
    /// What 999 of 1,000 samples do not exceed: a few pixels of a sensor are always stuck.
    nearly_all: u16,
    /// Whether all samples are multiples of 16: 12 bits, shifted up.
    are_multiples_of_16: bool,
    declared_max: Option<u16>,
}

impl Survey {
    /// Reads every picture's header, and the samples of deep ones.
    pub(crate) fn of(pictures: &[PictureFile]) -> Self {
        let notes: Vec<(FileNotes, Option<DeepSamples>)> =
            pictures.par_iter().map(notes_of).collect();
        let mut survey = Self::default();
        for (picture, (notes, deep)) in pictures.iter().zip(notes) {
            if notes.orientation.is_some() {
                survey.oriented.count(picture);
            }
            if notes.pages > 1 {
                survey.paged.count(picture);
            }
            survey.deep.extend(deep);
        }
        survey
    }

    pub(crate) fn deep_pictures(&self) -> usize {
        self.deep.len()
    }

    /// Returns the levels to train and serve with; `None` is the full range.
    pub(crate) fn levels(&self, choice: LevelsChoice) -> Option<Levels> {
        match choice {
            LevelsChoice::Full => None,
            LevelsChoice::Fixed(levels) => Some(levels),
            LevelsChoice::Auto => match told_by(&self.deep) {
                Told::Levels(levels) => Some(levels),
                Told::FullRange | Told::Nothing { .. } => None,
            },
        }
    }

    pub(crate) fn warnings(&self, choice: LevelsChoice) -> Vec<Warning> {
        let mut warnings = Vec::new();
        if let Some(first) = self.oriented.first.clone() {
            warnings.push(Warning::Oriented { pictures: self.oriented.pictures, first });
        }
        if let Some(first) = self.paged.first.clone() {
            warnings.push(Warning::SeveralPages { pictures: self.paged.pictures, first });
        }
        if let (LevelsChoice::Auto, Told::Nothing { max }) = (choice, told_by(&self.deep)) {
            warnings.push(Warning::LevelsUnknown { pictures: self.deep.len(), max });
        }
        warnings
    }
}

impl Found {
    fn count(&mut self, picture: &PictureFile) {
        self.pictures += 1;
        self.first.get_or_insert_with(|| picture.path.clone());
    }
}

fn notes_of(picture: &PictureFile) -> (FileNotes, Option<DeepSamples>) {
    // A file that cannot be read or decoded is skipped later, with a warning.
    let Ok(bytes) = read_picture(&picture.path) else { return Default::default() };
    let notes = FileNotes::read(&bytes);
    if !notes.is_deep {
        return (notes, None);
    }
    let Ok(Decoded::Deep(deep)) = decode_picture(bytes) else { return (notes, None) };
    let samples = DeepSamples {
        max: deep.samples.iter().copied().max().unwrap_or(0),
        nearly_all: quantile(&deep.samples, 0.999),
        are_multiples_of_16: deep.samples.iter().all(|sample| sample % 16 == 0),
        declared_max: notes.declared_max,
    };
    (notes, Some(samples))
}

/// Returns the smallest sample that this share of the samples does not exceed.
fn quantile(samples: &[u16], share: f64) -> u16 {
    let mut counts = vec![0_u32; usize::from(u16::MAX) + 1];
    samples.iter().for_each(|&sample| counts[usize::from(sample)] += 1);
    let enough = (samples.len() as f64 * share).ceil() as u64;
    let mut below = 0;
    let found = counts.iter().position(|&count| {
        below += u64::from(count);
        below >= enough
    });
    found.map_or(0, |value| value as u16)
}

/// What the samples of all deep pictures tell about their levels.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Levels(Levels),
    FullRange,
    Nothing { max: u16 },
}

/// Cameras deliver 10, 12 or 14 bits in 16, either as they are or shifted up to the full range.
///
/// Levels that are too low would clip what the line shows later, so these are sure or not told.
fn told_by(pictures: &[DeepSamples]) -> Told {
    /// Samples below an eighth of the full range would be nearly black.
    const DARK: u16 = u16::MAX / 8;
    let Some(max) = pictures.iter().map(|picture| picture.max).max() else {
        return Told::FullRange;
    };
    let exceeds = |picture: &DeepSamples| picture.declared_max.is_some_and(|d| picture.max > d);
    if pictures.iter().any(exceeds) {
        // Fewer bits were declared than the samples take: they are scaled up, as PNG requires.
        return Told::FullRange;
    }
    let declared = pictures.iter().filter_map(|picture| picture.declared_max).max();
    if let Some(white) = declared.filter(|&white| max <= white) {
        return Told::Levels(Levels { black: 0, white });
    }
    if pictures.iter().all(|picture| picture.are_multiples_of_16) {
        // Below 12 bits, they may also be 8 bits of 12.
        return if max > 4_095 { Told::FullRange } else { Told::Nothing { max } };
    }
    let up_to = |white| Told::Levels(Levels { black: 0, white });
    match max {
        512..=1_023 => up_to(1_023),
        2_048..=4_095 => up_to(4_095),
        8_192..=16_383 => up_to(16_383),
        32_768.. if pictures.iter().any(|picture| picture.nearly_all > DARK) => Told::FullRange,
        _ => Told::Nothing { max },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(pictures: &[(u16, bool, Option<u16>)]) -> Told {
        let samples = |&(max, are_multiples_of_16, declared_max)| DeepSamples {
            max,
            nearly_all: max,
            are_multiples_of_16,
            declared_max,
        };
        told_by(&pictures.iter().map(samples).collect::<Vec<_>>())
    }

    #[test]
    fn levels_follow_the_largest_sample_of_all_pictures() {
        let up_to = |white| Told::Levels(Levels { black: 0, white });
        for (maxima, expected) in [
            (&[][..], Told::FullRange),
            (&[700, 1_000], up_to(1_023)),
            (&[300, 4_000], up_to(4_095)),
            (&[2_048], up_to(4_095)),
            (&[16_000, 900], up_to(16_383)),
            (&[65_535, 900], Told::FullRange),
            (&[500], Told::Nothing { max: 500 }),
            (&[2_047], Told::Nothing { max: 2_047 }),
            (&[5_000], Told::Nothing { max: 5_000 }),
            (&[32_767], Told::Nothing { max: 32_767 }),
        ] {
            let pictures: Vec<_> = maxima.iter().map(|&max| (max, false, None)).collect();
            assert_eq!(told(&pictures), expected, "{maxima:?}");
        }
    }

    #[test]
    fn twelve_bits_shifted_up_use_the_full_range_however_dark() {
        for max in [65_520, 20_000, 12_000, 4_112] {
            assert_eq!(told(&[(max, true, None)]), Told::FullRange, "{max}");
        }
        assert_eq!(told(&[(4_080, true, None)]), Told::Nothing { max: 4_080 });
        assert_eq!(
            told(&[(20_000, true, None), (19_001, false, None)]),
            Told::Nothing { max: 20_000 }
        );
    }

    #[test]
    fn declared_depth_counts_unless_a_sample_exceeds_it() {
        let up_to = |white| Told::Levels(Levels { black: 0, white });
        assert_eq!(told(&[(1_200, false, Some(4_095))]), up_to(4_095));
        assert_eq!(told(&[(900, false, Some(4_095)), (1_000, false, None)]), up_to(4_095));
        assert_eq!(told(&[(900, false, Some(4_095)), (1_000, false, Some(65_535))]), up_to(65_535));
        // PNG scales samples up and keeps the number of significant bits (sBIT).
        assert_eq!(told(&[(65_520, true, Some(4_095))]), Told::FullRange);
        assert_eq!(told(&[(12_000, false, Some(1_023))]), Told::FullRange);
    }

    #[test]
    fn stuck_pixels_do_not_make_a_full_range() {
        let stuck = |nearly_all| DeepSamples {
            max: 65_535,
            nearly_all,
            are_multiples_of_16: false,
            declared_max: None,
        };
        assert_eq!(told_by(&[stuck(4_000), stuck(3_000)]), Told::Nothing { max: 65_535 });
        assert_eq!(told_by(&[stuck(4_000), stuck(50_000)]), Told::FullRange);
        assert_eq!(quantile(&[5, 7, 7, 9], 0.5), 7);
        assert_eq!(quantile(&[[3; 999].as_slice(), &[60_000]].concat(), 0.999), 3);
        assert_eq!(quantile(&[], 0.999), 0);
    }

    #[test]
    fn levels_choice_parses_names_and_numbers() {
        assert_eq!("auto".parse(), Ok(LevelsChoice::Auto));
        assert_eq!("full".parse(), Ok(LevelsChoice::Full));
        let levels = Levels { black: 64, white: 4_095 };
        assert_eq!("64:4095".parse(), Ok(LevelsChoice::Fixed(levels)));
        for wrong in ["", "4095", "9:9", "5:4", "0:65536", "-1:9", "Auto"] {
            let error = wrong.parse::<LevelsChoice>().unwrap_err().to_string();
            assert!(error.contains("BLACK:WHITE"), "{wrong}: {error}");
        }
    }
}
