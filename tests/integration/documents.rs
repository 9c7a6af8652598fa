//! The documents agree with the program.

use std::path::{Path, PathBuf};

use turret::config::SERVE;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs_err::read_to_string(root().join(path)).unwrap()
}

/// Lists the entries of a folder, as paths from the root of the repository.
fn entries(folder: &str) -> Vec<String> {
    let entries = fs_err::read_dir(root().join(folder)).unwrap();
    entries
        .map(|entry| format!("{folder}/{}", entry.unwrap().file_name().to_string_lossy()))
        .collect()
}

/// Lists every Markdown document: those at the root, and those in `docs/` and `assets/`.
fn documents() -> Vec<String> {
    let root = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(str::to_owned);
    let folders = ["docs", "assets"].into_iter().flat_map(entries);
    root.into_iter().chain(folders.filter(|path| path.ends_with(".md"))).collect()
}

/// Returns the anchor that a heading gets: lowercase, hyphens for spaces, no punctuation.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
    text.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect()
}

#[test]
fn settings_page_lists_every_server_setting_with_its_default() {
    let page = read("docs/settings.md");
    let listed: Vec<&str> = page.lines().filter(|line| line.starts_with("| `--")).collect();
    for setting in SERVE {
        let default = setting
            .default
            .map(|default| format!("`{default}`"))
            .unwrap_or_else(|| "required".to_owned());
        let row = format!(
            "| `--{}` | `{}` | {} | {} |",
            setting.name,
            setting.variable(),
            default,
            setting.help
        );
        assert!(listed.contains(&row.as_str()), "docs/settings.md has no row\n{row}");
    }
    assert_eq!(listed.len(), SERVE.len(), "docs/settings.md lists an unknown setting");
}

#[test]
fn every_relative_link_of_the_documents_exists() {
    for document in documents() {
        let text = read(&document);
        let folder = root().join(&document).parent().unwrap().to_owned();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.starts_with("http")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target: PathBuf =
                if file.is_empty() { root().join(&document) } else { folder.join(file) };
            assert!(target.exists(), "{document} links to {link}, which does not exist");
            if !heading.is_empty() {
                let text = fs_err::read_to_string(&target).unwrap();
                let mut headings = text.lines().filter(|line| line.starts_with('#')).map(anchor);
                assert!(headings.any(|known| known == heading), "{document} links to {link}");
            }
        }
    }
}

#[test]
fn errors_page_lists_every_reason() {
    let page = read("docs/errors.md");
    for file in ["src/grpc/request.rs", "src/engine/error.rs", "src/image/error.rs"] {
        let source = read(file);
        let (_, after) = source.split_once("fn reason(&self)").unwrap();
        let (reasons, _) = after.split_once("\n    }\n").unwrap();
        for reason in reasons.split('"').skip(1).step_by(2) {
            assert!(page.contains(&format!("`{reason}`")), "docs/errors.md lacks {reason}");
        }
    }
}

#[test]
fn operations_page_lists_every_metric() {
    let page = read("docs/operations.md");
    let families = read("src/metrics/families.rs");
    let names = families.split('"').skip(1).step_by(2).filter(|text| text.starts_with("turret_"));
    for name in names {
        assert!(page.contains(&format!("`{name}`")), "docs/operations.md lacks {name}");
    }
}

#[test]
fn code_map_lists_every_folder_with_code() {
    let map = read("ARCHITECTURE.md");
    let mut waiting = vec!["src".to_owned()];
    while let Some(folder) = waiting.pop() {
        let (folders, files): (Vec<String>, Vec<String>) =
            entries(&folder).into_iter().partition(|path| root().join(path).is_dir());
        let is_code = |path: &String| path.ends_with(".rs") && !path.ends_with("/tests.rs");
        let is_mapped = map.contains(&format!("`{folder}/`"));
        assert!(is_mapped || !files.iter().any(is_code), "ARCHITECTURE.md lacks {folder}/");
        waiting.extend(folders);
    }
}

#[test]
fn every_rpc_and_message_of_the_protocol_has_a_comment() {
    let protocol = read("proto/turret/v1/turret.proto");
    let lines: Vec<&str> = protocol.lines().map(str::trim).collect();
    for (number, line) in lines.iter().enumerate() {
        let needs_comment =
            ["rpc ", "message ", "enum ", "service "].iter().any(|word| line.starts_with(word));
        let above = number.checked_sub(1).map_or("", |above| lines[above]);
        assert!(!needs_comment || above.starts_with("//"), "{line} has no comment above it");
    }
}
