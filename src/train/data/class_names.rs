//! Class names that people take for one, although their bytes differ.

use std::collections::{BTreeMap, btree_map::Entry};

use unicode_normalization::UnicodeNormalization as _;

use super::DatasetError;
use crate::train::progress::Warning;

/// Returns an error that names two classes whose names look the same.
///
/// Such names are equal once characters are composed (Unicode NFC), characters without a shape
/// are left out, and blanks of any kind are one space, or none at the ends.
pub(super) fn refuse_twins<'a>(
    names: impl IntoIterator<Item = &'a String>,
) -> Result<(), DatasetError> {
    match twins(names, as_seen).into_iter().next() {
        None => Ok(()),
        Some([first, second]) => {
            Err(DatasetError::TwinClasses { first: first.clone(), second: second.clone() })
        }
    }
}

/// Warns of classes whose names differ only in upper and lower case.
pub(super) fn warn_of_case_twins(classes: &[String], warn: &mut dyn FnMut(Warning)) {
    for [first, second] in twins(classes, |name| as_seen(name).to_lowercase()) {
        warn(Warning::CaseTwins { first: first.clone(), second: second.clone() });
    }
}

/// Returns the pairs of different names that have one key.
fn twins<'a>(
    names: impl IntoIterator<Item = &'a String>,
    key: impl Fn(&str) -> String,
) -> Vec<[&'a String; 2]> {
    let mut first_of = BTreeMap::new();
    let mut twins = Vec::new();
    for name in names {
        match first_of.entry(key(name)) {
            Entry::Vacant(vacant) => {
                vacant.insert(name);
            }
            Entry::Occupied(first) if *first.get() != name => twins.push([*first.get(), name]),
            Entry::Occupied(_) => {}
        }
    }
    twins
}

/// Returns whether people take the two names for one.
pub(crate) fn look_the_same(one: &str, other: &str) -> bool {
    as_seen(one) == as_seen(other)
}

fn as_seen(name: &str) -> String {
    let composed: String = name.nfc().filter(|letter| !has_no_shape(*letter)).collect();
    composed.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Tells soft hyphens, zero-width characters, marks of direction and byte-order marks.
fn has_no_shape(letter: char) -> bool {
    matches!(
        letter,
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}' | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(first: &str, second: &str) -> [String; 2] {
        [first.to_owned(), second.to_owned()]
    }

    #[test]
    fn names_that_look_the_same_are_refused_with_both_spelled_out() {
        for (first, second, spelled) in [
            ("caf\u{e9}", "cafe\u{301}", r#""caf\u{e9}" and "cafe\u{301}""#),
            ("ok", "ok ", r#""ok" and "ok ""#),
            (" ok", "ok", r#"" ok" and "ok""#),
            ("ok\u{a0}", "ok", r#""ok\u{a0}" and "ok""#),
            ("deep dent", "deep\u{a0}dent", r#""deep dent" and "deep\u{a0}dent""#),
            ("ok", "\u{feff}ok", r#""ok" and "\u{feff}ok""#),
            ("o\u{200b}k", "ok", r#""o\u{200b}k" and "ok""#),
        ] {
            let error = refuse_twins(&pair(first, second)).unwrap_err().to_string();
            assert!(error.contains(spelled), "{spelled} is not in {error}");
        }
    }

    #[test]
    fn different_names_and_repeated_ones_pass() {
        for (first, second) in [("e", "\u{e9}"), ("ok", "ok"), ("m2", "m\u{b2}"), ("OK", "ok")] {
            assert!(refuse_twins(&pair(first, second)).is_ok(), "{first} and {second}");
        }
    }

    #[test]
    fn names_that_differ_in_case_only_cause_a_warning() {
        let warnings = |first, second| {
            let mut warnings = Vec::new();
            warn_of_case_twins(&pair(first, second), &mut |warning| warnings.push(warning));
            warnings
        };
        let (first, second) = ("OK".to_owned(), "ok".to_owned());
        assert_eq!(warnings("OK", "ok"), [Warning::CaseTwins { first, second }]);
        assert_eq!(warnings("ok", "dent"), []);
    }
}
