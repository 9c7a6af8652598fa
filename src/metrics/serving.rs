//! Renders the heads that serve, in the text exposition format.

use std::fmt::Write as _;

use super::families::{Family, HEAD_INFO, HEADS_SERVING};

/// A head that serves its task.
#[derive(Debug)]
pub struct HeadInfo<'a> {
    pub task: &'a str,
    pub version: u64,
    /// The SHA-256 of its file, in hex.
    pub digest: String,
}

/// Appends the gauges that describe the serving heads.
pub(super) fn append<'a>(text: &mut String, heads: impl ExactSizeIterator<Item = HeadInfo<'a>>) {
    begin(text, &HEADS_SERVING);
    line(text, &format_args!("{} {}", HEADS_SERVING.name, heads.len()));
    if heads.len() > 0 {
        begin(text, &HEAD_INFO);
    }
    for HeadInfo { task, version, digest } in heads {
        let (name, task, digest) = (HEAD_INFO.name, escaped(task), escaped(&digest));
        line(
            text,
            &format_args!(r#"{name}{{digest="{digest}",task="{task}",version="{version}"}} 1"#),
        );
    }
}

fn begin(text: &mut String, family: &Family) {
    line(text, &format_args!("# HELP {} {}", family.name, family.help));
    line(text, &format_args!("# TYPE {} gauge", family.name));
}

fn line(text: &mut String, line: &std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _written = writeln!(text, "{line}");
}

/// Escapes a label value.
fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}
