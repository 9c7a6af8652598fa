//! Lists of pictures: CSV with a header, or one JSON object per line.
//!
//! Columns `path` and `label` are required; `split` (train, val or test), `group` and `weight` are
//! optional. Paths are relative to the list. Other columns are ignored unless `--group` names one.

use std::{collections::BTreeMap, path::Path};

use super::{DatasetError, GroupBy, Listed, Mistakes, Part};

/// The non-empty columns of one line.
type Row = BTreeMap<String, String>;

/// Rows with their line numbers, from 1.
type Rows = Vec<(u64, Row)>;

/// Returns whether the path has the extension of a list.
pub(super) fn is_manifest(path: &Path) -> bool {
    is_json(path) || has_extension(path, "csv")
}

fn is_json(path: &Path) -> bool {
    has_extension(path, "jsonl") || has_extension(path, "ndjson")
}

fn has_extension(path: &Path, expected: &str) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(expected))
}

/// Reads every line of the list; reports all mistakes at once, with their line numbers.
pub(super) fn read(path: &Path, group_by: &GroupBy) -> Result<Vec<Listed>, DatasetError> {
    let bytes = fs_err::read(path)
        .map_err(|source| DatasetError::Read { path: path.to_owned(), source })?;
    let mut mistakes = Mistakes::default();
    let rows = if is_json(path) {
        json_rows(&bytes, &mut mistakes)
    } else {
        csv_rows(&bytes, &mut mistakes)
    };
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
        mistakes.0.sort_by_key(|(line, _)| *line);
        return Err(DatasetError::Manifest { path: path.to_owned(), mistakes });
    }
    Ok(listed)
}

fn parse_row(mut row: Row, folder: &Path, group: Option<&str>) -> Result<Listed, String> {
    let group = group.and_then(|column| row.get(column).cloned());
    let mut take = |column: &str| row.remove(column);
    let path = folder.join(take("path").ok_or("column \"path\" is missing or empty")?);
    if !path.is_file() {
        return Err(format!("no such file: {}", path.display()));
    }
    let label = take("label").ok_or("column \"label\" is missing or empty")?;
    let given = match take("split").as_deref() {
        None => None,
        Some("train") => Some(Part::Train),
        Some("val" | "valid" | "validation") => Some(Part::Validation),
        Some("test") => Some(Part::Test),
        Some(other) => {
            return Err(format!(
                "unknown split {other:?}, expected \"train\", \"val\" or \"test\""
            ));
        }
    };
    let weight = take("weight").map_or(Ok(1.0), |text| match text.parse::<f32>() {
        Ok(weight) if weight.is_finite() && weight > 0.0 => Ok(weight),
        Ok(_) | Err(_) => Err(format!("invalid weight {text:?}, expected a number above 0")),
    })?;
    Ok(Listed { label, path, given, group, weight })
}

fn csv_rows(bytes: &[u8], mistakes: &mut Mistakes) -> Rows {
    let header = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    // In locales with a decimal comma, spreadsheets separate columns by semicolons.
    let delimiter = if header.contains(&b';') && !header.contains(&b',') { b';' } else { b',' };
    let mut reader =
        csv::ReaderBuilder::new().delimiter(delimiter).trim(csv::Trim::All).from_reader(bytes);
    let names = match reader.headers() {
        Ok(names) => names.clone(),
        Err(error) => {
            mistakes.0.push((1, error.to_string()));
            return Rows::new();
        }
    };
    for column in ["path", "label"] {
        if !names.iter().any(|name| name == column) {
            mistakes.0.push((
                1,
                format!(
                    "header has no column {column:?}, only {}",
                    names.iter().collect::<Vec<_>>().join(", ")
                ),
            ));
        }
    }
    if !mistakes.0.is_empty() {
        return Rows::new();
    }
    let mut rows = Rows::new();
    for record in reader.records() {
        match record {
            Ok(record) => {
                let line = record.position().map_or(0, csv::Position::line);
                let cells = names.iter().zip(&record).filter(|(_, cell)| !cell.is_empty());
                rows.push((
                    line,
                    cells.map(|(name, cell)| (name.to_owned(), cell.to_owned())).collect(),
                ));
            }
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line);
                mistakes.0.push((line, error.to_string()));
            }
        }
    }
    rows
}

fn json_rows(bytes: &[u8], mistakes: &mut Mistakes) -> Rows {
    let mut rows = Rows::new();
    for (line, text) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        if text.trim_ascii().is_empty() {
            continue;
        }
        match json_row(text) {
            Ok(row) => rows.push((line, row)),
            Err(mistake) => mistakes.0.push((line, mistake)),
        }
    }
    rows
}

fn json_row(text: &[u8]) -> Result<Row, String> {
    let fields: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(text).map_err(|error| format!("not a JSON object: {error}"))?;
    let mut row = Row::new();
    for (name, value) in fields {
        let value = match value {
            serde_json::Value::Null => continue,
            serde_json::Value::String(text) if text.is_empty() => continue,
            serde_json::Value::String(text) => text,
            serde_json::Value::Number(number) => number.to_string(),
            serde_json::Value::Bool(truth) => truth.to_string(),
            // No known column has such a value, so it is an extra column.
            serde_json::Value::Array(_) | serde_json::Value::Object(_) => continue,
        };
        row.insert(name, value);
    }
    Ok(row)
}
