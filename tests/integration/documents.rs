//! What the documents say is what the program does.

use std::path::Path;

use turret::config::SERVE;

fn readme() -> String {
    fs_err::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

#[test]
fn the_readme_lists_every_setting_of_the_server_with_its_default() {
    let readme = readme();
    let listed: Vec<&str> = readme.lines().filter(|line| line.starts_with("| `--")).collect();
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
        assert!(listed.contains(&row.as_str()), "the README has no row\n{row}");
    }
    assert_eq!(listed.len(), SERVE.len(), "the README lists a setting that does not exist");
}

#[test]
fn every_link_of_the_readme_leads_somewhere() {
    let readme = readme();
    let links = readme.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    for link in links.filter(|link| !link.starts_with("http") && !link.starts_with('#')) {
        let file = link.split('#').next().unwrap_or(link);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        assert!(path.exists(), "the README links to {link}, which does not exist");
    }
}

#[test]
fn every_rpc_and_message_of_the_protocol_is_documented() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/turret/v1/turret.proto");
    let protocol = fs_err::read_to_string(path).unwrap();
    let lines: Vec<&str> = protocol.lines().map(str::trim).collect();
    for (number, line) in lines.iter().enumerate() {
        let needs_comment =
            ["rpc ", "message ", "enum ", "service "].iter().any(|word| line.starts_with(word));
        let above = number.checked_sub(1).map_or("", |above| lines[above]);
        assert!(!needs_comment || above.starts_with("//"), "{line} has no comment above it");
    }
}
