//! Rows of a list with a header, separated by commas, semicolons, tabs or bars.

use csv::StringRecord;

use super::{
    super::Mistakes,
    Row, Rows,
    text::{Lines, line_end},
};

/// Tried in this order; where the decimal sign is a comma, spreadsheets write semicolons.
const SEPARATORS: [u8; 4] = [b',', b';', b'\t', b'|'];
const REQUIRED: [&str; 2] = ["path", "label"];
const OPTIONAL: [&str; 3] = ["split", "group", "weight"];

/// Returns the rows that have any value, or none if the header or the quotes are wrong.
pub(super) fn rows(text: &str, mistakes: &mut Mistakes) -> Rows {
    let (declared, start) = declared_separator(text);
    let table = &text[start..];
    let separator = declared.unwrap_or_else(|| likely_separator(table));
    let lines = Lines::of(text);
    let unbalanced = unbalanced_quotes(table.as_bytes(), separator).into_iter();
    mistakes.0.extend(unbalanced.map(|(at, mistake)| (lines.number(start + at), mistake)));
    if !mistakes.0.is_empty() {
        return Rows::new();
    }
    let mut records = records(table, separator)
        .map(|(at, record)| (lines.number(start + at), record))
        .filter(|(_, record)| !record.iter().all(str::is_empty));
    let Some((line, names)) = records.next() else {
        let mistake = "the list is empty, expected a header such as path,label";
        mistakes.0.push((1, mistake.to_owned()));
        return Rows::new();
    };
    let wrong = wrong_header(&names);
    if !wrong.is_empty() {
        mistakes.0.extend(wrong.into_iter().map(|mistake| (line, mistake)));
        return Rows::new();
    }
    let mut rows = Rows::new();
    for (line, record) in records {
        match row(&names, &record) {
            Ok(row) => rows.push((line, row)),
            Err(mistake) => mistakes.0.push((line, mistake)),
        }
    }
    rows
}

fn wrong_header(names: &StringRecord) -> Vec<String> {
    let count = |column: &str| names.iter().filter(|name| *name == column).count();
    let missing = REQUIRED.into_iter().filter(|column| count(column) == 0).map(|column| {
        let found = names.iter().collect::<Vec<_>>().join(", ");
        format!(
            "header has no column {column:?}, only {found}; the first line names the columns, such \
             as path,label"
        )
    });
    let all = REQUIRED.into_iter().chain(OPTIONAL);
    let repeated = all.filter(|column| count(column) > 1);
    missing
        .chain(repeated.map(|column| format!("header names column {column:?} more than once")))
        .collect()
}

fn row(names: &StringRecord, record: &StringRecord) -> Result<Row, String> {
    let has_more = record.iter().skip(names.len()).any(|cell| !cell.is_empty());
    if record.len() < names.len() || has_more {
        let (found, expected) = (record.len(), names.len());
        return Err(format!(
            "found {found} cells, but the header has {expected} columns; write empty cells too, \
             and put a cell with a separator in it into quotes"
        ));
    }
    let cells = names.iter().zip(record).filter(|(_, cell)| !cell.is_empty());
    Ok(cells.map(|(name, cell)| (name.to_owned(), cell.to_owned())).collect())
}

/// Returns every record without blanks around its cells, and the offset at which it begins.
fn records(table: &str, separator: u8) -> impl Iterator<Item = (usize, StringRecord)> {
    let reader = csv::ReaderBuilder::new()
        .delimiter(separator)
        .has_headers(false)
        .flexible(true)
        .from_reader(table.as_bytes());
    // Records of any length are valid, and so is the text: no error can occur.
    reader.into_records().filter_map(Result::ok).map(|mut record| {
        let at = record.position().map_or(0, |position| position.byte() as usize);
        record.trim();
        // The reader counts the line feed of a CRLF, and blank lines, to the record that follows.
        let rest = table.as_bytes().get(at..).unwrap_or_default();
        let skipped = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        (at + skipped, record)
    })
}

/// Returns the separator of Excel's first line `sep=;`, and where the table begins.
fn declared_separator(text: &str) -> (Option<u8>, usize) {
    let end = char::from(line_end(text.as_bytes()));
    let (line, next) =
        text.split_once(end).map_or((text, text.len()), |(line, _)| (line, line.len() + 1));
    let line = line.strip_suffix('\r').unwrap_or(line).trim_matches('"');
    match line.split_once('=') {
        Some((word, separator)) if word.eq_ignore_ascii_case("sep") => match separator.as_bytes() {
            [separator] if separator.is_ascii() => (Some(*separator), next),
            _ => (None, 0),
        },
        Some(_) | None => (None, 0),
    }
}

/// Returns the separator that gives the header the most of the required columns, then of columns.
fn likely_separator(table: &str) -> u8 {
    let columns = |separator: u8| {
        let header = records(table, separator).find(|(_, names)| !names.iter().all(str::is_empty));
        header.map_or((0, 0), |(_, names)| {
            let is_required = |name: &&str| REQUIRED.contains(name);
            (names.iter().filter(is_required).count(), names.len())
        })
    };
    let mut likely = (SEPARATORS[0], columns(SEPARATORS[0]));
    for separator in SEPARATORS {
        let found = columns(separator);
        if found > likely.1 {
            likely = (separator, found);
        }
    }
    likely.0
}

/// Returns where a quoted cell does not end, or goes on after its closing quote.
///
/// The reader itself takes such text without a word: an open quote swallows all lines that follow.
fn unbalanced_quotes(table: &[u8], separator: u8) -> Option<(usize, String)> {
    let is_end = |byte: u8| byte == separator || matches!(byte, b'\r' | b'\n');
    let mut at = 0;
    while at < table.len() {
        if table[at] == b'"' {
            let opened = at;
            at += 1;
            loop {
                match (table.get(at), table.get(at + 1)) {
                    (None, _) => {
                        return Some((opened, "the quote (\") is not closed".to_owned()));
                    }
                    (Some(b'"'), Some(b'"')) => at += 2,
                    (Some(b'"'), _) => break,
                    (Some(_), _) => at += 1,
                }
            }
            at += 1;
            if table.get(at).is_some_and(|byte| !is_end(*byte)) {
                let mistake = "text follows the closing quote (\") of a cell; close the quote at \
                               its end, and double the quotes inside";
                return Some((opened, mistake.to_owned()));
            }
        }
        // On to the next cell.
        let rest = table.get(at..).unwrap_or_default();
        at += rest.iter().take_while(|byte| !is_end(**byte)).count() + 1;
    }
    None
}
