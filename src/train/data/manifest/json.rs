//! Rows of a list with one JSON object per line.

use super::{super::Mistakes, Row, Rows, text::line_end};

/// Returns the lines that are not blank.
pub(super) fn rows(text: &str, mistakes: &mut Mistakes) -> Rows {
    let mut rows = Rows::new();
    let end = char::from(line_end(text.as_bytes()));
    for (line, text) in (1..).zip(text.split(end)) {
        if text.trim().is_empty() {
            continue;
        }
        match row(text) {
            Ok(row) => rows.push((line, row)),
            Err(mistake) => mistakes.0.push((line, mistake)),
        }
    }
    rows
}

fn row(text: &str) -> Result<Row, String> {
    let fields: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(text).map_err(|error| no_object(&error))?;
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

/// Describes the error without the line number of serde_json, which counts from this line.
fn no_object(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
    let fix = if reason.contains("escape") {
        "write each backslash twice, or use /"
    } else {
        "write one object per line, such as {\"path\": \"1.png\", \"label\": \"ok\"}"
    };
    format!("not a JSON object: {reason} in column {}; {fix}", error.column())
}
