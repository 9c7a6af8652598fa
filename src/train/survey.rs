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
    let max = deep.samples.iter().copied().max().unwrap_or(0);
    let are_multiples_of_16 = deep.samples.iter().all(|sample| sample % 16 == 0);
    let samples = DeepSamples { max, are_multiples_of_16, declared_max: notes.declared_max };
    (notes, Some(samples))
}

/// What the samples of all deep pictures tell about their levels.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Levels(Levels),
    FullRange,
    /// The largest sample fits no depth.
    Nothing {
        max: u16,
    },
}

/// Cameras deliver 10, 12 or 14 bits in 16, either as they are or shifted up to the full range.
fn told_by(pictures: &[DeepSamples]) -> Told {
    let Some(max) = pictures.iter().map(|picture| picture.max).max() else {
        return Told::FullRange;
    };
    let up_to = |white| Told::Levels(Levels { black: 0, white });
    let declared = pictures[0].declared_max;
    if let Some(white) = declared
        && max <= white
        && pictures.iter().all(|picture| picture.declared_max == declared)
    {
        return up_to(white);
    }
    match max {
        512..=1_023 => up_to(1_023),
        2_048..=4_095 => up_to(4_095),
        8_192..=16_383 => up_to(16_383),
        32_768.. => Told::FullRange,
        _ if max > 4_095 && pictures.iter().all(|picture| picture.are_multiples_of_16) => {
            Told::FullRange
        }
        _ => Told::Nothing { max },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(pictures: &[(u16, bool, Option<u16>)]) -> Told {
        let samples = |&(max, are_multiples_of_16, declared_max)| DeepSamples {
            max,
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
    fn twelve_bits_shifted_up_use_the_full_range() {
        assert_eq!(told(&[(20_000, true, None)]), Told::FullRange);
        assert_eq!(
            told(&[(20_000, true, None), (19_001, false, None)]),
            Told::Nothing { max: 20_000 }
        );
    }

    #[test]
    fn declared_depth_counts_unless_a_sample_exceeds_it() {
        let twelve = Told::Levels(Levels { black: 0, white: 4_095 });
        assert_eq!(told(&[(1_200, false, Some(4_095))]), twelve);
        assert_eq!(
            told(&[(1_200, false, Some(4_095)), (900, false, None)]),
            Told::Nothing { max: 1_200 }
        );
        // PNG scales samples up and keeps the number of significant bits (sBIT).
        assert_eq!(told(&[(65_520, true, Some(4_095))]), Told::FullRange);
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
