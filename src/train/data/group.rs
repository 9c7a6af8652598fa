//! Groups of pictures that show the same object and so must not be split between train and val.

use std::{convert::Infallible, path::Path, str::FromStr};

/// Where the group of a picture comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum GroupBy {
    /// The column `group` of a CSV or JSONL file, if present; otherwise each picture is a group.
    #[default]
    Auto,
    /// The file name; see `stem_group`.
    Stem,
    /// Another column of a CSV or JSONL file.
    Column(String),
}

impl FromStr for GroupBy {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "auto" => Self::Auto,
            "stem" => Self::Stem,
            column => Self::Column(column.to_owned()),
        })
    }
}

/// Returns the file stem up to its last `_` or `-`, or without either up to its trailing digits.
///
/// If nothing would remain, returns the whole stem. `part12_3.png` and `part12-b.jpg` give
/// `part12`, `dent007.png` gives `dent`.
pub(super) fn stem_group(path: &Path) -> Option<String> {
    let stem = path.file_stem()?.to_string_lossy();
    let group = match stem.rsplit_once(['_', '-']) {
        Some((before, _)) => before,
        None => stem.trim_end_matches(|letter: char| letter.is_ascii_digit()),
    };
    Some(if group.is_empty() { stem.into_owned() } else { group.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stem_group_drops_the_last_piece_of_the_name() {
        for (name, group) in [
            ("part12_3.png", "part12"),
            ("part12-b.jpg", "part12"),
            ("lot4_part12_top.png", "lot4_part12"),
            ("dent007.png", "dent"),
            ("0001.png", "0001"),
            ("_7.png", "_7"),
            ("whole", "whole"),
        ] {
            assert_eq!(stem_group(Path::new(name)).as_deref(), Some(group), "{name}");
        }
    }
}
