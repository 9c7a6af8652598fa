//! Lists of pictures: CSV with a header, or one JSON object per line, as UTF-8.
//!
//! Columns `path` and `label` are required; `split` (train, val or test), `group` and `weight` are
//! optional. Paths are relative to the list. Other columns are ignored unless `--group` names one.

mod csv;
mod json;
mod text;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::{DatasetError, GroupBy, Listed, Mistakes, Part};

/// The non-empty columns of one line.
type Row = BTreeMap<String, String>;

/// Rows with their line numbers, from 1.
type Rows = Vec<(u64, Row)>;

/// Returns whether the path has the extension of a list.
pub(super) fn is_manifest(path: &Path) -> bool {
    Format::of(path).is_some()
}

/// How a list is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Csv,
    JsonLines,
}

impl Format {
    fn of(path: &Path) -> Option<Self> {
        let named = |extensions: &[&str]| extensions.iter().any(|it| has_extension(path, it));
        if named(&["csv", "tsv"]) {
            Some(Self::Csv)
        } else {
            named(&["jsonl", "ndjson"]).then_some(Self::JsonLines)
        }
    }
}

fn has_extension(path: &Path, expected: &str) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(expected))
}

/// Reads every line of the list; reports all mistakes at once, with their line numbers.
pub(super) fn read(path: &Path, group_by: &GroupBy) -> Result<Vec<Listed>, DatasetError> {
    let bytes = fs_err::read(path)
        .map_err(|source| DatasetError::Read { path: path.to_owned(), source })?;
    let mut mistakes = Mistakes::default();
    let format = Format::of(path).unwrap_or(Format::Csv);
    let rows = rows(&bytes, format, &mut mistakes);
    let column = match group_by {
        GroupBy::Auto => Some("group"),
        GroupBy::Stem => None,
        GroupBy::Column(column) => Some(column.as_str()),
    };
    if let (GroupBy::Column(column), true) = (group_by, mistakes.0.is_empty())
        && !rows.iter().any(|(_, row)| row.contains_key(column))
    {
        mistakes.0.push((1, format!("no line has a value in column {column:?}, named by --group")));
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut listed = Vec::with_capacity(rows.len());
    for (line, row) in rows {
        match parse_row(row, folder, column) {
            Ok(file) => listed.push(file),
            Err(mistake) => mistakes.0.push((line, mistake)),
        }
    }
    if !mistakes.0.is_empty() {
        return Err(DatasetError::Manifest { path: path.to_owned(), mistakes: mistakes.into() });
    }
    Ok(listed)
}

/// Returns the rows with any value, in order; their text may be wrong.
fn rows(bytes: &[u8], format: Format, mistakes: &mut Mistakes) -> Rows {
    match (text::decode(bytes, mistakes), format) {
        (None, _) => Rows::new(),
        (Some(text), Format::Csv) => csv::rows(text, mistakes),
        (Some(text), Format::JsonLines) => json::rows(text, mistakes),
    }
}

fn parse_row(mut row: Row, folder: &Path, group: Option<&str>) -> Result<Listed, String> {
    let group = group.and_then(|column| row.get(column).cloned());
    let mut take = |column: &str| row.remove(column);
    let path = file(folder, &take("path").ok_or("column \"path\" is missing or empty")?)?;
    let label = take("label").ok_or("column \"label\" is missing or empty")?;
    let given = take("split").map(|text| {
        let unknown = || format!("unknown split {text:?}, expected \"train\", \"val\" or \"test\"");
        Part::of_word(&text).ok_or_else(unknown)
    });
    let given = given.transpose()?;
    let weight = take("weight").map_or(Ok(1.0), |text| match text.parse::<f32>() {
        Ok(weight) if weight.is_finite() && weight > 0.0 => Ok(weight),
        Ok(_) | Err(_) => Err(format!("invalid weight {text:?}, expected a number above 0")),
    })?;
    Ok(Listed { label, path, given, group, weight })
}

/// Returns the file of a path as the list names it, also with the backslashes of Windows.
fn file(folder: &Path, path: &str) -> Result<PathBuf, String> {
    let as_written = folder.join(path);
    let with_slashes = folder.join(path.replace('\\', "/"));
    if let Some(found) = [&as_written, &with_slashes].into_iter().find(|path| path.is_file()) {
        return Ok(found.clone());
    }
    let shown = as_written.display();
    Err(if as_written.is_dir() {
        format!("{shown} is a folder; name each picture in it")
    } else if is_on_windows_drive(path) {
        format!("no such file: {path}, on a drive of Windows; write paths relative to the list")
    } else {
        format!("no such file: {shown}; paths are relative to the list")
    })
}

fn is_on_windows_drive(path: &str) -> bool {
    matches!(path.as_bytes(), [drive, b':', b'\\' | b'/', ..] if drive.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests;
