//! Imports point down: the table of layers in `src/lib.rs`, kept true.

use std::path::{Path, PathBuf};

const WORDS: &[&str] = &["ids", "error", "metrics", "tensor_file", "atomic_file"];

/// A module, what it may use of ours beside the words, and the crates it must never name.
struct Layer {
    module: &'static str,
    may_use: &'static [&'static str],
    never: &'static [&'static str],
}

/// Only this module names libtorch.
const TORCH: &str = "torch";
const LIBTORCH_CRATES: [&str; 2] = ["tch", "torch_sys"];
/// Where else `torch` is used: private layers learn in libtorch.
const USES_TORCH: &str = "train/deep";

const ASYNC: &[&str] = &["tokio", "tonic", "notify"];

const LAYERS: &[Layer] = &[
    Layer { module: "ids", may_use: &[], never: ASYNC },
    Layer { module: "error", may_use: &[], never: ASYNC },
    Layer { module: "metrics", may_use: &[], never: ASYNC },
    Layer { module: "tensor_file", may_use: &[], never: ASYNC },
    Layer { module: "atomic_file", may_use: &[], never: ASYNC },
    Layer { module: "image", may_use: &[], never: ASYNC },
    Layer { module: "base", may_use: &["image"], never: ASYNC },
    Layer { module: "head", may_use: &["image", "base"], never: ASYNC },
    Layer { module: TORCH, may_use: &["image", "base"], never: ASYNC },
    Layer { module: "store", may_use: &["image", "base", "head"], never: ASYNC },
    Layer { module: "registry", may_use: &["image", "base", "head"], never: &["tonic", "notify"] },
    Layer { module: "engine", may_use: &["image", "base", "head"], never: &["tonic", "notify"] },
    Layer {
        module: "reload",
        may_use: &["image", "base", "head", "store", "registry", "engine"],
        never: &["tonic"],
    },
    Layer { module: "train", may_use: &["image", "base", "head", "store"], never: ASYNC },
    // The words of layer 1 that a request is parsed into, never their files or tensors.
    Layer {
        module: "grpc",
        may_use: &["image", "base", "head", "registry", "engine"],
        never: &["notify", "fs_err"],
    },
    Layer {
        module: "admin",
        may_use: &["registry", "engine", "grpc"],
        never: &["notify", "fs_err"],
    },
];

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

/// Whether the text names this crate at the start of a path.
fn names_crate(text: &str, name: &str) -> bool {
    let path_start = format!("{name}::");
    text.match_indices(&path_start).any(|(start, _)| {
        !text[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
    })
}

#[test]
fn imports_point_down_only() {
    let all: Vec<&str> =
        LAYERS.iter().map(|layer| layer.module).chain(["config", "server"]).collect();
    for Layer { module, may_use, never } in LAYERS {
        for (path, text) in files_of(module) {
            if path.file_name().is_some_and(|name| name == "tests.rs") {
                continue;
            }
            let text = without_tests(&text);
            for used in modules_used(text).iter().map(String::as_str) {
                let is_ours = all.contains(&used);
                let learns = used == TORCH && path.starts_with(source().join(USES_TORCH));
                let fine = !is_ours
                    || used == *module
                    || WORDS.contains(&used)
                    || may_use.contains(&used)
                    || learns;
                assert!(fine, "{} uses {used}, which {module} may not", path.display());
            }
            for forbidden in *never {
                let uses = names_crate(text, forbidden);
                assert!(!uses, "{} uses {forbidden}, which {module} may not", path.display());
            }
        }
    }
}

#[test]
fn only_the_torch_module_names_libtorch() {
    let mut waiting = vec![source()];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs_err::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if !path.starts_with(source().join(TORCH)) {
            let text = fs_err::read_to_string(&path).unwrap();
            let found = LIBTORCH_CRATES.iter().find(|name| names_crate(&text, name));
            assert!(found.is_none(), "{} names {found:?}", path.display());
        }
    }
}

#[test]
fn every_module_has_a_layer() {
    let library = fs_err::read_to_string(source().join("lib.rs")).unwrap();
    for module in
        library.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
    {
        let known = LAYERS.iter().any(|layer| layer.module == module);
        assert!(known || ["config", "server"].contains(&module), "{module} has no layer");
    }
}

#[test]
fn no_file_is_longer_than_five_hundred_lines() {
    let mut waiting = ["src", "tests", "benches", "examples", "client", "tools"]
        .map(|f| Path::new(env!("CARGO_MANIFEST_DIR")).join(f))
        .to_vec();
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
    for module in
        library.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'))
    {
        for (path, text) in files_of(module) {
            let text = without_tests(&text);
            // Behind a `b` it is a function's name in a library.
            let is_metric = |(start, _): (usize, &str)| !text[..start].ends_with('b');
            let names_one = text.match_indices("\"turret_").any(is_metric);
            assert!(module == "metrics" || !names_one, "{} names a metric", path.display());
        }
    }
}
