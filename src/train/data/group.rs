//! Which pictures show the same part: they must never be learned and judged at once.

use std::{convert::Infallible, path::Path, str::FromStr};

/// Where the group of a picture comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum GroupBy {
    /// The column `group` of a CSV or JSONL file, if it has one; else every picture stands for itself.
    #[default]
    Auto,
    /// The file's name; see [`stem_group`].
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

/// The name without its suffix, up to the last `_` or `-`; without either, up to the digits at its end. A name of which
/// nothing is left stays whole. `part12_3.png` and `part12-b.jpg` are `part12`, `dent007.png` is `dent`.
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
    fn a_stem_group_is_the_name_without_its_last_piece() {
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
