//! Imports point down: the table of layers in `src/lib.rs`, kept true.

use std::path::{Path, PathBuf};

/// Each module with all that it may use of ours, and the crates it must never see.
const MAY_USE: &[(&str, &[&str], &[&str])] = &[
    ("task", &[], &["tokio", "tonic", "notify", "tch"]),
    ("branch", &[], &["tokio", "tonic", "notify", "tch"]),
    ("features", &["task"], &["tokio", "tonic", "notify", "tch"]),
    ("error", &[], &["tokio", "tonic", "notify", "tch"]),
    ("metrics", &[], &["tokio", "tonic", "notify", "tch"]),
    ("tensor_file", &[], &["tokio", "tonic", "notify", "tch"]),
    ("whole_file", &[], &["tokio", "tonic", "notify", "tch"]),
    ("image", WORDS, &["tokio", "tonic", "notify", "tch"]),
    (
        "base",
        &["task", "branch", "features", "error", "metrics", "tensor_file", "whole_file", "image"],
        &["tokio", "tonic", "notify"],
    ),
    (
        "head",
        &["task", "branch", "features", "error", "metrics", "tensor_file", "whole_file", "image"],
        &["tokio", "tonic", "notify", "tch"],
    ),
    (
        "store",
        &[
            "task",
            "branch",
            "features",
            "error",
            "metrics",
            "tensor_file",
            "whole_file",
            "image",
            "base",
            "head",
        ],
        &["tokio", "tonic", "notify", "tch"],
    ),
    ("registry", PARTS, &["tonic", "notify", "tch"]),
    ("engine", PARTS, &["tonic", "notify", "tch"]),
    (
        "reload",
        &[
            "task", "branch", "features", "error", "metrics", "image", "base", "head", "store", "registry",
            "engine",
        ],
        &["tonic", "tch"],
    ),
    (
        "train",
        &[
            "task",
            "branch",
            "features",
            "error",
            "metrics",
            "tensor_file",
            "whole_file",
            "image",
            "base",
            "head",
            "store",
        ],
        // Layers learn with libtorch's gradients.
        &["tokio", "tonic", "notify"],
    ),
    (
        "grpc",
        // The words of layer 1 that a request is parsed into, never their files or tensors.
        &["task", "branch", "features", "error", "metrics", "image", "head", "registry", "engine"],
        &["tch", "notify", "fs_err"],
    ),
    ("admin", &["task", "error", "metrics", "registry", "engine", "grpc"], &["tch", "notify", "fs_err"]),
];

const WORDS: &[&str] = &["task", "branch", "features", "error", "metrics", "tensor_file", "whole_file"];
const PARTS: &[&str] =
    &["task", "branch", "features", "error", "metrics", "tensor_file", "whole_file", "image", "base", "head"];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every file of a module, tests inside it included, with its text.
fn files_of(module: &str) -> Vec<(PathBuf, String)> {
    let mut waiting = vec![source().join(format!("{module}.rs")), source().join(module)];
    let mut files = Vec::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs_err::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.exists() {
            let text = fs_err::read_to_string(&path).unwrap();
            files.push((path, text));
        }
    }
    assert!(!files.is_empty(), "there is no module {module}");
    files
}

/// The part of a file before its tests: those may use what they like.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text)
}

/// The modules of ours that a text names after `crate::`, alone or in braces.
fn modules_used(text: &str) -> Vec<String> {
    let mut used = Vec::new();
    for (start, _) in text.match_indices("crate::") {
        let rest = &text[start + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 0usize;
            let mut word = String::new();
            for character in list.chars() {
                match character {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' => word.clear(),
                    ':' | ' ' | '\n' => {}
                    letter if depth == 0 => word.push(letter),
                    _ => {}
                }
                if depth == 0 && character == ':' && !word.is_empty() {
                    used.push(std::mem::take(&mut word));
                }
            }
        } else {
            used.push(rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect());
        }
    }
    used
}

#[test]
fn imports_point_down_only() {
    let all: Vec<&str> = MAY_USE.iter().map(|(module, ..)| *module).chain(["config", "server"]).collect();
    for (module, allowed, forbidden_crates) in MAY_USE {
        for (path, text) in files_of(module) {
            let is_test = path.file_name().is_some_and(|name| name == "tests.rs");
            if is_test {
                continue;
            }
            let text = without_tests(&text);
            for used in modules_used(text) {
                let is_ours = all.contains(&used.as_str());
                let fine = !is_ours || used == *module || allowed.contains(&used.as_str());
                assert!(fine, "{} uses {used}, which {module} may not", path.display());
            }
            for forbidden in *forbidden_crates {
                let path_start = format!("{forbidden}::");
                let is_whole_word = |(start, _): (usize, &str)| {
                    !text[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
                };
                let uses = text.match_indices(&path_start).any(is_whole_word);
                assert!(!uses, "{} uses {forbidden}, which {module} may not", path.display());
            }
        }
    }
}

#[test]
fn every_module_has_a_layer() {
    let library = fs_err::read_to_string(source().join("lib.rs")).unwrap();
    for module in library.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')) {
        let known = MAY_USE.iter().any(|(name, ..)| *name == module);
        assert!(known || ["config", "server"].contains(&module), "{module} has no layer");
    }
}

#[test]
fn no_file_is_longer_than_five_hundred_lines() {
    let mut waiting =
        ["src", "tests", "examples"].map(|f| Path::new(env!("CARGO_MANIFEST_DIR")).join(f)).to_vec();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs_err::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|suffix| suffix == "rs") {
            let lines = fs_err::read_to_string(&path).unwrap().lines().count();
            assert!(lines <= 500, "{} has {lines} lines", path.display());
        }
    }
}

#[test]
fn finds_what_a_file_uses() {
    let text = "use crate::{\n    base::{Base, x::Y},\n    head::Head,\n};\nfn f() { crate::store::scan() }";
    assert_eq!(modules_used(text), ["base", "head", "store"]);
}

#[test]
fn metrics_are_named_in_their_module_only() {
    let library = fs_err::read_to_string(source().join("lib.rs")).unwrap();
    for module in library.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')) {
        for (path, text) in files_of(module) {
            let text = without_tests(&text);
            // Behind a `b` it is a function's name in a library.
            let is_metric = |(start, _): (usize, &str)| !text[..start].ends_with('b');
            let names_one = text.match_indices("\"turret_").any(is_metric);
            assert!(module == "metrics" || !names_one, "{} names a metric", path.display());
        }
    }
}
