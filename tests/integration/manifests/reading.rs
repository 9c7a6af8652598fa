//! Reads rendered manifests, a pod's command line and a binary's help.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use serde_json::Value;

pub(super) static MANIFESTS: LazyLock<Vec<Manifests>> = LazyLock::new(Manifests::all);

pub(super) struct Manifests {
    pub(super) origin: String,
    documents: Vec<Value>,
}

impl Manifests {
    /// Returns both overlays as rendered by kubectl, or the base's files where there is no kubectl.
    fn all() -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("k8s");
        let rendered: Option<Vec<Self>> = ["cpu", "gpu"]
            .map(|overlay| Self::rendered(&folder.join("overlays").join(overlay)))
            .into_iter()
            .collect();
        rendered.unwrap_or_else(|| {
            // Not `eprintln!`, which the test harness hides when tests pass.
            let note =
                b"note: no kubectl here: the overlays in k8s/ are not checked, only the base\n";
            std::io::stderr().write_all(note).unwrap();
            vec![Self::unrendered(&folder.join("base"))]
        })
    }

    fn rendered(overlay: &Path) -> Option<Self> {
        let output = match Command::new("kubectl").arg("kustomize").arg(overlay).output() {
            Err(error) if error.kind() == ErrorKind::NotFound => return None,
            output => output.unwrap(),
        };
        assert!(
            output.status.success(),
            "{}: {}",
            overlay.display(),
            String::from_utf8_lossy(&output.stderr)
        );
        Some(Self::parsed(overlay, &String::from_utf8(output.stdout).unwrap()))
    }

    fn unrendered(base: &Path) -> Self {
        let files: BTreeSet<PathBuf> =
            fs_err::read_dir(base).unwrap().map(|entry| entry.unwrap().path()).collect();
        let texts = files
            .iter()
            .filter(|file| !file.ends_with("kustomization.yaml"))
            .map(fs::read_to_string);
        Self::parsed(base, &texts.map(Result::unwrap).collect::<Vec<_>>().join("\n---\n"))
    }

    fn parsed(origin: &Path, text: &str) -> Self {
        let documents = serde_saphyr::from_multiple(text)
            .unwrap_or_else(|error| panic!("{}: {error}", origin.display()));
        Self { origin: origin.display().to_string(), documents }
    }

    pub(super) fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.documents.iter().filter(move |document| document["kind"] == kind)
    }

    pub(super) fn only(&self, kind: &str) -> &Value {
        let mut found = self.of_kind(kind);
        let first = found.next().unwrap_or_else(|| panic!("{}: no {kind}", self.origin));
        assert!(found.next().is_none(), "{}: more than one {kind}", self.origin);
        first
    }

    pub(super) fn server(&self) -> Pod<'_> {
        Pod::of(&self.only("Deployment")["spec"]["template"], "turret")
    }

    pub(super) fn fine_tune_job(&self) -> Pod<'_> {
        Pod::of(&self.only("CronJob")["spec"]["jobTemplate"]["spec"]["template"], "fine-tune")
    }

    pub(super) fn pods(&self) -> [Pod<'_>; 2] {
        [self.server(), self.fine_tune_job()]
    }
}

/// A pod template with its one container.
pub(super) struct Pod<'a> {
    pub(super) labels: &'a Value,
    pub(super) spec: &'a Value,
    pub(super) container: &'a Value,
}

impl<'a> Pod<'a> {
    fn of(template: &'a Value, container_name: &str) -> Self {
        let spec = &template["spec"];
        let containers = spec["containers"].as_array().expect("a pod has containers");
        assert_eq!(containers.len(), 1, "one container in the pod of {container_name}");
        assert_eq!(containers[0]["name"], container_name);
        Self { labels: &template["metadata"]["labels"], spec, container: &containers[0] }
    }

    pub(super) fn arguments(&self) -> Arguments<'a> {
        let words = list(&self.container["args"]).iter().map(text).collect::<Vec<_>>();
        Arguments::parsed(&words)
    }

    /// Returns the port numbers by name.
    pub(super) fn ports(&self) -> BTreeMap<&'a str, u64> {
        let ports = list(&self.container["ports"]).iter();
        ports.map(|port| (text(&port["name"]), port["containerPort"].as_u64().unwrap())).collect()
    }

    pub(super) fn mount_holding(&self, path: &str) -> Option<&'a Value> {
        let mounts = list(&self.container["volumeMounts"]).iter();
        let holding = mounts.filter(|mount| Path::new(path).starts_with(text(&mount["mountPath"])));
        holding.max_by_key(|mount| text(&mount["mountPath"]).len())
    }

    pub(super) fn volume(&self, mount: &Value) -> Option<&'a Value> {
        list(&self.spec["volumes"]).iter().find(|volume| volume["name"] == mount["name"])
    }

    /// A path is read-only if its mount or its volume is.
    pub(super) fn may_write(&self, path: &str) -> bool {
        let mount = self.mount_holding(path).unwrap_or_else(|| panic!("{path} is on no volume"));
        let claim = &self.volume(mount).expect("the mount has a volume")["persistentVolumeClaim"];
        mount["readOnly"] != true && claim["readOnly"] != true
    }
}

/// A program's arguments: `--flag value` or `--flag=value`, and words without a flag.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Arguments<'a> {
    pub(super) flags: BTreeMap<&'a str, &'a str>,
    pub(super) words: Vec<&'a str>,
}

impl<'a> Arguments<'a> {
    fn parsed(arguments: &[&'a str]) -> Self {
        let mut parsed = Self::default();
        let mut rest = arguments.iter().copied().peekable();
        while let Some(argument) = rest.next() {
            if !argument.starts_with("--") {
                parsed.words.push(argument);
            } else if let Some((flag, value)) = argument.split_once('=') {
                parsed.flags.insert(flag, value);
            } else {
                let value = rest.next_if(|next| !next.starts_with("--")).unwrap_or_default();
                parsed.flags.insert(argument, value);
            }
        }
        parsed
    }

    pub(super) fn flag(&self, name: &str) -> &'a str {
        self.flags.get(name).unwrap_or_else(|| panic!("flag {name} is missing"))
    }

    pub(super) fn port(&self, name: &str) -> u64 {
        self.flag(name).rsplit_once(':').expect("an address with a port").1.parse().unwrap()
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &'a str> {
        self.flags.values().chain(&self.words).copied().filter(|value| value.starts_with('/'))
    }
}

/// Returns the long flags that a subcommand lists in its help.
pub(super) fn flags_known_to(binary: &str, subcommand: &str) -> BTreeSet<String> {
    let output = Command::new(binary).args([subcommand, "--help"]).output().unwrap();
    assert!(
        output.status.success(),
        "{binary} {subcommand} --help: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    flags_in_help(&String::from_utf8(output.stdout).unwrap())
}

/// Reads flags at the start of lines only: descriptions name flags of other commands too.
fn flags_in_help(help: &str) -> BTreeSet<String> {
    let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let names = lines.filter_map(|line| {
        line.split([' ', ',', '=', '[', '.']).find(|word| word.starts_with("--"))
    });
    names.map(str::to_owned).collect()
}

pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("expected a string, found {value}"))
}

/// Tells whether a selector's `matchLabels` select a pod with these labels.
pub(super) fn selects(match_labels: &Value, labels: &Value) -> bool {
    let required = match_labels.as_object().expect("a selector has labels");
    !required.is_empty() && required.iter().all(|(name, value)| labels[name] == *value)
}

mod tests {
    use super::*;

    #[test]
    fn flags_are_found_at_the_start_of_a_line_only() {
        let help = "\
Usage: turret serve [OPTIONS] --base <FILE>

Options:
      --base <FILE>
          What --other wrote [env: TURRET_BASE=]
  -v, --verbose...
      --color[=<WHEN>]
  -h, --help
";
        let expected = ["--base", "--verbose", "--color", "--help"].map(str::to_owned);
        assert_eq!(flags_in_help(help), BTreeSet::from(expected));
    }

    #[test]
    fn flag_and_value_are_read_from_one_word_or_two() {
        let parsed = Arguments::parsed(&[
            "train",
            "/data",
            "--heads=/heads",
            "--task",
            "a",
            "--quiet",
            "--seed",
            "1",
        ]);
        assert_eq!(parsed.words, ["train", "/data"]);
        let flags = [("--heads", "/heads"), ("--task", "a"), ("--quiet", ""), ("--seed", "1")];
        assert_eq!(parsed.flags, BTreeMap::from(flags));
        assert_eq!(parsed.paths().collect::<Vec<_>>(), ["/heads", "/data"]);
    }

    #[test]
    fn writable_path_is_told_from_a_read_only_one() {
        let template = serde_json::json!({"spec": {
            "containers": [{"name": "c", "volumeMounts": [
                {"name": "a", "mountPath": "/a", "readOnly": true}, {"name": "b", "mountPath": "/b"},
                {"name": "c", "mountPath": "/c"}, {"name": "c", "mountPath": "/a/inner"}]}],
            "volumes": [{"name": "a", "emptyDir": {}}, {"name": "c", "emptyDir": {}},
                {"name": "b", "persistentVolumeClaim": {"claimName": "b", "readOnly": true}}]}});
        let pod = Pod::of(&template, "c");
        assert!(!pod.may_write("/a/file") && !pod.may_write("/b/file"));
        assert!(pod.may_write("/c/file") && pod.may_write("/a/inner/file"));
        assert!(pod.mount_holding("/another").is_none());
    }
}
