//! Imports point down, as the table of layers in `src/lib.rs` says; files and comments are short.

mod sources;

use sources::{
    all_files, files_below, files_of, library_modules, modules_used, names_crate, source,
    without_tests,
};

const WORDS: &[&str] = &["ids", "error", "metrics", "tensor_file", "atomic_file"];

/// A module, the modules it may use beside [`WORDS`], and the crates it must never name.
struct Layer {
    module: &'static str,
    may_use: &'static [&'static str],
    never: &'static [&'static str],
}

/// The only module that names libtorch.
const TORCH: &str = "torch";
const LIBTORCH_CRATES: [&str; 2] = ["tch", "torch_sys"];
/// The only other place that uses `torch`: fine-tuning runs in libtorch.
const USES_TORCH: &str = "train/deep";

/// Longest file, in lines.
const MAX_LINES: usize = 500;
/// Widest comment, in columns, as `max_width` in rustfmt.toml.
const MAX_COLUMNS: usize = 100;

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
    // Requests are parsed into the words of layer 1, never into their files or tensors.
    Layer {
        module: "grpc",
        may_use: &["image", "base", "head", "registry", "engine"],
        never: &["notify", "fs_err"],
    },
    Layer {
        module: "admin",
        may_use: &["registry", "engine", "grpc", "health"],
        never: &["notify", "fs_err"],
    },
    Layer {
        module: "health",
        may_use: &["engine", "reload", "grpc"],
        never: &["tonic", "notify", "fs_err"],
    },
];

/// Modules above all layers.
const PROGRAM: [&str; 3] = ["config", "log", "server"];

#[test]
fn imports_point_down_only() {
    let all: Vec<&str> = LAYERS.iter().map(|layer| layer.module).chain(PROGRAM).collect();
    for Layer { module, may_use, never } in LAYERS {
        for (path, text) in files_of(module) {
            if path.file_name().is_some_and(|name| name == "tests.rs") {
                continue;
            }
            let text = without_tests(&text);
            for used in modules_used(text).iter().map(String::as_str) {
                let is_module = all.contains(&used);
                let fine_tunes = used == TORCH && path.starts_with(source().join(USES_TORCH));
                let allowed = !is_module
                    || used == *module
                    || WORDS.contains(&used)
                    || may_use.contains(&used)
                    || fine_tunes;
                assert!(allowed, "{} uses {used}, which {module} may not", path.display());
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
    for (path, text) in files_below([source()]) {
        let found = LIBTORCH_CRATES.iter().find(|name| names_crate(&text, name));
        let allowed = found.is_none() || path.starts_with(source().join(TORCH));
        assert!(allowed, "{} names {found:?}", path.display());
    }
}

#[test]
fn every_module_has_a_layer() {
    for module in library_modules() {
        let known = LAYERS.iter().any(|layer| layer.module == module);
        assert!(known || PROGRAM.contains(&module.as_str()), "{module} has no layer");
    }
}

#[test]
fn files_are_at_most_five_hundred_lines_long() {
    for (path, text) in all_files() {
        let lines = text.lines().count();
        assert!(lines <= MAX_LINES, "{} has {lines} lines", path.display());
    }
}

#[test]
fn comments_are_at_most_a_hundred_columns_wide() {
    let mut wide = Vec::new();
    for (path, text) in all_files() {
        for (line, number) in text.lines().zip(1..) {
            if line.trim_start().starts_with("//") && line.chars().count() > MAX_COLUMNS {
                wide.push(format!("{}:{number}", path.display()));
            }
        }
    }
    assert!(wide.is_empty(), "comments wider than {MAX_COLUMNS} columns:\n{}", wide.join("\n"));
}

#[test]
fn modules_used_are_found_in_imports_and_paths() {
    let text = "use crate::{\n    base::{Base, x::Y},\n    head::Head, ids,\n};\nfn f() { crate::store::scan() }";
    assert_eq!(modules_used(text), ["base", "head", "ids", "store"]);
}

#[test]
fn metrics_are_named_in_their_module_only() {
    for module in library_modules() {
        for (path, text) in files_of(&module) {
            let text = without_tests(&text);
            // After a `b` the string is the name of a function in a library.
            let is_metric = |(start, _): (usize, &str)| !text[..start].ends_with('b');
            let names_metric = text.match_indices("\"turret_").any(is_metric);
            assert!(module == "metrics" || !names_metric, "{} names a metric", path.display());
        }
    }
}
