//! Reads the project's source files, and finds what they name.

use std::path::{Path, PathBuf};

/// Folders that hold the project's sources.
const FOLDERS: [&str; 6] = ["src", "tests", "benches", "examples", "client", "tools"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(super) fn source() -> PathBuf {
    root().join("src")
}

/// Returns all source files of the project with their text, `build.rs` included.
pub(super) fn all_files() -> Vec<(PathBuf, String)> {
    files_below(FOLDERS.iter().copied().chain(["build.rs"]).map(|name| root().join(name)))
}

/// Returns the Rust and C++ files at or below these paths with their text.
pub(super) fn files_below(paths: impl IntoIterator<Item = PathBuf>) -> Vec<(PathBuf, String)> {
    let mut pending: Vec<PathBuf> = paths.into_iter().collect();
    let mut files = Vec::new();
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(fs_err::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path
            .extension()
            .is_some_and(|suffix| ["rs", "cpp", "h"].iter().any(|s| suffix == *s))
        {
            let text = fs_err::read_to_string(&path).unwrap();
            files.push((path, text));
        }
    }
    files
}

/// Returns every file of a module with its text, tests inside it included.
pub(super) fn files_of(module: &str) -> Vec<(PathBuf, String)> {
    let candidates = [source().join(format!("{module}.rs")), source().join(module)];
    let files = files_below(candidates.into_iter().filter(|path| path.exists()));
    assert!(!files.is_empty(), "there is no module {module}");
    files
}

/// Returns the public modules that `src/lib.rs` declares.
pub(super) fn library_modules() -> Vec<String> {
    let library = fs_err::read_to_string(source().join("lib.rs")).unwrap();
    let names = library.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    names.map(str::to_owned).collect()
}

/// Returns the part of a file before its tests, which may use any module.
pub(super) fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text)
}

/// Returns the modules that a text names after `crate::`, alone or in braces.
pub(super) fn modules_used(text: &str) -> Vec<String> {
    let mut used = Vec::new();
    for (start, _) in text.match_indices("crate::") {
        let rest = &text[start + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let (mut depth, mut in_path) = (0usize, false);
            let mut word = String::new();
            for character in list.chars() {
                let ends_name = matches!(character, ':' | ',' | '}');
                if depth == 0 && ends_name && !word.is_empty() {
                    used.push(std::mem::take(&mut word));
                }
                match character {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ':' if depth == 0 => in_path = true,
                    ',' if depth == 0 => in_path = false,
                    letter if depth == 0 && !in_path && !letter.is_whitespace() => {
                        word.push(letter)
                    }
                    _ => {}
                }
            }
        } else {
            used.push(rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect());
        }
    }
    used
}

/// Tells whether the text names this crate at the start of a path.
pub(super) fn names_crate(text: &str, name: &str) -> bool {
    let path_start = format!("{name}::");
    text.match_indices(&path_start).any(|(start, _)| {
        !text[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
    })
}
