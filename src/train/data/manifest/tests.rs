use proptest::{collection::vec, prelude::*};

use super::*;

/// The line, path and label of a row.
type Found = (u64, String, String);

/// Returns what was found in each row, and the mistakes.
fn parse(bytes: &[u8], format: Format) -> (Vec<Found>, Vec<(u64, String)>) {
    let mut mistakes = Mistakes::default();
    let rows = rows(bytes, format, &mut mistakes);
    let cell = |row: &Row, column: &str| row.get(column).cloned().unwrap_or_default();
    let rows = rows.iter().map(|(line, row)| (*line, cell(row, "path"), cell(row, "label")));
    (rows.collect(), mistakes.0)
}

fn valid(text: &str) -> Vec<Found> {
    let (rows, mistakes) = parse(text.as_bytes(), Format::Csv);
    assert_eq!(mistakes, [], "{text:?}");
    rows
}

fn mistakes(bytes: &[u8], format: Format) -> Vec<(u64, String)> {
    let (rows, mistakes) = parse(bytes, format);
    assert!(!mistakes.is_empty(), "{rows:?}");
    mistakes
}

fn triples(rows: &[(u64, &str, &str)]) -> Vec<Found> {
    rows.iter().map(|(line, path, label)| (*line, (*path).into(), (*label).into())).collect()
}

#[test]
fn line_numbers_are_those_of_an_editor() {
    let expected = triples(&[(3, "a", "ok"), (6, "b", "ok"), (7, "c", "ok")]);
    let text = "path,label\n\na,ok\n\n   \nb,ok\nc,ok\n";
    for end in ["\n", "\r\n", "\r"] {
        assert_eq!(valid(&text.replace('\n', end)), expected, "{end:?}");
        let bom = format!("\u{feff}{}", text.replace('\n', end));
        assert_eq!(valid(&bom), expected, "{end:?} with a byte-order mark");
    }
    let quoted = "path,label,notes\r\na,ok,\"one\r\ntwo\"\r\nb,ok,\r\n";
    assert_eq!(valid(quoted), triples(&[(2, "a", "ok"), (4, "b", "ok")]));
    let json = "\u{feff}\r\n{\"path\": \"a\", \"label\": \"ok\"}\r\n\r\n{\"path\": \"b\"\r\n";
    let (rows, mistakes) = parse(json.as_bytes(), Format::JsonLines);
    assert_eq!((rows, mistakes[0].0), (triples(&[(2, "a", "ok")]), 4));
}

#[test]
fn separators_are_told_apart_and_may_be_declared() {
    let one = triples(&[(2, "a", "ok")]);
    for text in [
        "path,label\na,ok\n",
        "path;label;size, mm\na;ok;1,5\n",
        "path\tlabel\tsize, mm; roughly\na\tok\t1\n",
        "path|label\na|ok\n",
        "\"path\";\"label\"\r\n\"a\";\"ok\"\r\n",
        "path,label,,\na,ok,,\n,,,\n",
        "path,label\na,ok,,\n",
    ] {
        assert_eq!(valid(text), one, "{text:?}");
    }
    for text in [
        "sep=;\r\npath;label\r\na;ok",
        "\u{feff}SEP=\t\npath\tlabel\na\tok",
        "\"sep=,\"\n\npath,label\na,ok",
    ] {
        let rows = valid(text);
        let lines = u64::try_from(text.lines().count()).unwrap();
        assert_eq!(rows, triples(&[(lines, "a", "ok")]), "{text:?}");
    }
}

#[test]
fn quoted_cells_hold_separators_quotes_and_blanks() {
    let rows = valid("path,label\n\"a, b.png\",\"6\"\" disc\"\n  c.png , ok \n");
    assert_eq!(rows, triples(&[(2, "a, b.png", "6\" disc"), (3, "c.png", "ok")]));
}

#[test]
fn open_quote_is_a_mistake_and_swallows_no_line() {
    for (text, line, told) in [
        ("path,label,notes\na,ok,\"new\nb,ok,\nc,ok,\n", 2, "is not closed"),
        ("path,label,notes\r\na,ok,\r\nb,ok,\"new\r\nc,ok,\"old\"\r\n", 3, "follows the closing"),
        ("path,label\n\"a\"b,ok\n", 2, "follows the closing"),
    ] {
        let found = mistakes(text.as_bytes(), Format::Csv);
        assert!(found[0].0 == line && found[0].1.contains(told), "{found:?}");
    }
}

#[test]
fn other_encodings_are_refused_with_how_to_save_the_list() {
    let text = "path\tlabel\r\na\tok\r\n";
    let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    let marked = [&[0xff, 0xfe], little.as_slice()].concat();
    for bytes in [&marked, &little, &big] {
        for format in [Format::Csv, Format::JsonLines] {
            let found = mistakes(bytes, format);
            assert!(found.len() == 1 && found[0].1.contains("UTF-16"), "{found:?}");
            assert!(found[0].1.contains("CSV UTF-8"), "{found:?}");
        }
    }
    let latin = mistakes(b"path,label\r\na,ok\r\ncaf\xe9,ok\r\nd\xfc,ok\r\n", Format::Csv);
    assert_eq!(latin.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [3, 4]);
    assert!(latin[0].1.starts_with("byte 0xe9 after \"caf\" is not UTF-8; save"), "{latin:?}");
}

#[test]
fn wrong_headers_rows_and_objects_say_how_to_mend_them() {
    for (text, format, line, told) in [
        ("", Format::Csv, 1, "the list is empty, expected a header such as path,label"),
        ("\n\n\n", Format::Csv, 1, "the list is empty"),
        ("\n1.png,ok\n", Format::Csv, 2, "no column \"path\", only 1.png, ok; the first line"),
        ("path,label,label\n", Format::Csv, 1, "\"label\" more than once"),
        ("path,label\na,b.png,ok\n", Format::Csv, 2, "found 3 cells, but the header has 2"),
        ("path,label,x\na,ok\n", Format::Csv, 2, "found 2 cells, but the header has 3"),
        (r#"{"path": "cam1\001.png"}"#, Format::JsonLines, 1, "write each backslash twice"),
        ("[1]", Format::JsonLines, 1, "write one object per line"),
    ] {
        let found = mistakes(text.as_bytes(), format);
        assert!(found[0].0 == line && found[0].1.contains(told), "{found:?}");
        assert!(!found[0].1.contains("at line"), "a second line number: {found:?}");
    }
}

#[test]
fn paths_of_windows_are_read_or_told() {
    let folder = tempfile::tempdir().unwrap();
    fs_err::create_dir(folder.path().join("cam1")).unwrap();
    for name in ["cam1/a.png", "back\\slash.png"] {
        fs_err::write(folder.path().join(name), name).unwrap();
    }
    let file = |path| file(folder.path(), path);
    assert_eq!(file("cam1\\a.png").unwrap(), folder.path().join("cam1/a.png"));
    assert_eq!(file("back\\slash.png").unwrap(), folder.path().join("back\\slash.png"));
    let drive = file("C:\\cam1\\a.png").unwrap_err();
    assert!(drive.starts_with("no such file: C:\\cam1\\a.png, on a drive"), "{drive}");
    assert!(file("b.png").unwrap_err().contains("relative to the list"));
    assert!(file("cam1").unwrap_err().contains("is a folder"));
}

/// Whatever the bytes are, rows and mistakes lie on lines of the text, in order.
fn any_bytes_give_rows_or_mistakes(bytes: &[u8]) {
    for format in [Format::Csv, Format::JsonLines] {
        let (rows, mistakes) = parse(bytes, format);
        let ends = bytes.iter().filter(|byte| matches!(byte, b'\r' | b'\n')).count() as u64;
        let lines: Vec<u64> = rows.iter().map(|(line, ..)| *line).collect();
        let all = lines.iter().chain(mistakes.iter().map(|(line, _)| line));
        assert!(all.clone().all(|line| (1..=ends + 1).contains(line)), "{rows:?} {mistakes:?}");
        // A lone carriage return ends a row of CSV, but a line only where there is no line feed.
        assert!(lines.is_sorted(), "{rows:?}");
    }
}

/// A list is read whole, however its lines end and whatever blank lines lie between them.
///
/// The bytes choose the form: two bytes for the list, then two for each row.
fn rows_of_a_valid_list_are_on_their_lines(bytes: &[u8]) {
    let [form, blank, rows @ ..] = bytes else { return };
    let end = if form & 1 == 0 { "\n" } else { "\r\n" };
    let separator = [',', ';', '\t', '|'][usize::from(form >> 1 & 3)];
    let mut csv = if form & 8 == 0 { String::new() } else { format!("sep={separator}{end}") };
    let mut json = String::new();
    let blank_lines = |count: u8| [end, "  ", end].concat().repeat(usize::from(count % 3));
    csv += &format!("{}path{separator}label{end}", blank_lines(*blank));
    let names: Vec<(String, String)> = rows
        .chunks_exact(2)
        .enumerate()
        .map(|(number, row)| (format!("{number}-{}", row[0]), format!("class {}", row[1] % 5)))
        .collect();
    for ((path, label), row) in names.iter().zip(rows.chunks_exact(2)) {
        let (cell, blank) = if row[0] & 1 == 0 { ("", row[1]) } else { ("\"", row[0] >> 1) };
        csv += &format!("{}{cell}{path}{cell}{separator}{label}{end}", blank_lines(blank));
        json += &format!("{}{{\"label\": {label:?}, \"path\": {path:?}}}{end}", blank_lines(blank));
    }
    for (mut text, format) in [(csv, Format::Csv), (json, Format::JsonLines)] {
        if form & 16 != 0 {
            text.truncate(text.trim_end_matches(['\r', '\n']).len());
        }
        let numbered = (1..).zip(text.lines());
        let lines = numbered.filter(|(_, line)| line.contains("class ")).map(|(line, _)| line);
        let expected: Vec<_> =
            lines.zip(&names).map(|(n, (p, l))| (n, p.clone(), l.clone())).collect();
        assert_eq!(expected.len(), names.len());
        let mark = if form & 32 == 0 { "" } else { "\u{feff}" };
        let (found, mistakes) = parse(format!("{mark}{text}").as_bytes(), format);
        assert_eq!((found, mistakes), (expected, Vec::new()), "{text:?}");
    }
}

/// Rows of a text without quotes lie on the line that holds their path.
fn rows_of_any_table_are_on_their_lines(bytes: &[u8]) {
    const LETTERS: &[u8] = b"ab,;\t\n\n\r \"";
    let letters = bytes.iter().map(|byte| LETTERS[usize::from(*byte) % (LETTERS.len() - 1)]);
    let table: String = letters.map(char::from).collect();
    let text = format!("path,label\n{table}");
    let lines: Vec<&str> = text.lines().collect();
    for (line, path, _) in parse(text.as_bytes(), Format::Csv).0 {
        let found = lines[usize::try_from(line).unwrap() - 1];
        assert!(found.contains(&path) && !found.trim().is_empty(), "{line} of {text:?}");
    }
}

proptest! {
    #[test]
    fn list_reader_takes_any_bytes(bytes in vec(any::<u8>(), 0..300)) {
        any_bytes_give_rows_or_mistakes(&bytes);
    }

    #[test]
    fn list_reader_takes_any_table(bytes in vec(0u8..20, 0..80)) {
        const LETTERS: &[u8] = b"path,label;\t\n\r \"{}:x";
        let table: Vec<u8> = bytes.iter().map(|byte| LETTERS[usize::from(*byte)]).collect();
        any_bytes_give_rows_or_mistakes(&[b"path,label\n".as_slice(), &table].concat());
        any_bytes_give_rows_or_mistakes(&table);
        rows_of_any_table_are_on_their_lines(&bytes);
    }

    #[test]
    fn valid_list_is_read_whole_with_the_lines_of_its_text(bytes in vec(any::<u8>(), 0..60)) {
        rows_of_a_valid_list_are_on_their_lines(&bytes);
    }
}
