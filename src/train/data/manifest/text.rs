//! The text of a list: its encoding, and the line on which a byte lies.

use super::super::Mistakes;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Returns the text without its byte-order mark, or adds the mistakes that keep it from being read.
pub(super) fn decode<'b>(bytes: &'b [u8], mistakes: &mut Mistakes) -> Option<&'b str> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    if is_utf16(bytes) {
        let mistake = "the list is UTF-16 text, expected UTF-8; save it again, in Excel as \"CSV \
                       UTF-8 (Comma delimited)\" instead of \"Unicode Text\"";
        mistakes.0.push((1, mistake.to_owned()));
        return None;
    }
    if let Ok(text) = str::from_utf8(bytes) {
        return Some(text);
    }
    let end = line_end(bytes);
    for (number, line) in (1..).zip(bytes.split(|byte| *byte == end)) {
        if let Err(error) = str::from_utf8(line) {
            let (before, rest) = line.split_at(error.valid_up_to());
            let before = String::from_utf8_lossy(before);
            let found = rest.first().copied().unwrap_or_default();
            mistakes.0.push((
                number,
                format!(
                    "byte {found:#04x} after {before:?} is not UTF-8; save the list as UTF-8, in \
                     Excel as \"CSV UTF-8 (Comma delimited)\""
                ),
            ));
        }
    }
    None
}

/// Tells UTF-16 by its byte-order mark, or by the zero byte beside the first letter.
fn is_utf16(bytes: &[u8]) -> bool {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => true,
        [first, second, ..] => (*first == 0) != (*second == 0),
        [] | [_] => false,
    }
}

/// Returns the byte that ends a line; only where there is no line feed it is the carriage return.
pub(super) fn line_end(text: &[u8]) -> u8 {
    if text.contains(&b'\n') { b'\n' } else { b'\r' }
}

/// Where the lines of a text begin.
pub(super) struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    pub(super) fn of(text: &str) -> Self {
        let end = line_end(text.as_bytes());
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == end);
        Self { starts: std::iter::once(0).chain(ends.map(|(index, _)| index + 1)).collect() }
    }

    /// Returns the number, from 1, of the line with the byte at this offset.
    pub(super) fn number(&self, offset: usize) -> u64 {
        self.starts.partition_point(|start| *start <= offset) as u64
    }
}
