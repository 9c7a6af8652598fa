//! `fine-tune` as a program: evaluating heads, PyTorch round trips, and kills at any moment.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use turret::{head::HeadContent, tensor_file::TensorFile};

use crate::support::{
    process::{failure, fine_tune, small_data_set, success, turret},
    served::Served,
};

struct Workspace {
    folder: tempfile::TempDir,
}

impl Workspace {
    fn new() -> Self {
        let workspace = Self { folder: tempfile::tempdir().unwrap() };
        success(
            turret()
                .args(["base", "random", "resnet18", "-o"])
                .arg(workspace.path("base.safetensors")),
        );
        small_data_set(workspace.folder.path(), 6);
        fs_err::create_dir(workspace.path("heads")).unwrap();
        fs_err::create_dir(workspace.path("empty-heads")).unwrap();
        workspace
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn head(&self, version: u64) -> PathBuf {
        self.path(&format!("heads/part/{version:08}.safetensors"))
    }

    /// Returns a command with its base.
    fn fine_tune(&self, arguments: &[&str]) -> Command {
        let mut command = fine_tune();
        command.args(arguments).arg("--base").arg(self.path("base.safetensors"));
        command
    }

    fn train(&self) -> Command {
        let mut command =
            self.fine_tune(&["train", "--task", "part", "--good", "light", "--output", "json"]);
        command.args(["--preprocess", "letterbox:32"]).arg(self.path("data"));
        command.arg("--heads").arg(self.path("heads")).arg("--cache").arg(self.path("cache"));
        command
    }
}

fn content(path: &Path) -> HeadContent {
    HeadContent::from_bytes(&fs_err::read(path).unwrap()).unwrap()
}

#[test]
fn evaluate_counts_labelled_pictures_and_refuses_unknown_labels() {
    let workspace = Workspace::new();
    success(&mut workspace.train());
    let evaluate = |data: &str, more: &[&str]| {
        let mut command = workspace.fine_tune(&["evaluate"]);
        command.arg(workspace.head(1)).arg(workspace.path(data)).args(more);
        command.arg("--cache").arg(workspace.path("cache"));
        command
    };
    let evaluation: serde_json::Value =
        serde_json::from_str(&success(&mut evaluate("data", &["--json"]))).unwrap();
    assert_eq!(
        (&evaluation["pictures"], &evaluation["confusion"][0]),
        (&json!(18), &json!([6, 0, 0]))
    );
    assert_eq!(evaluation["classes"][1]["label"], "light");
    let table = success(&mut evaluate("data", &[]));
    assert!(
        table.contains("precision") && table.contains("part version 1 on 18 pictures"),
        "{table}"
    );

    fs_err::rename(workspace.path("data/striped"), workspace.path("data/rusty")).unwrap();
    let (code, told) = failure(&mut evaluate("data", &[]));
    assert_eq!(code, 1);
    assert!(told.contains("\"rusty\"") && told.contains(": dark, light, striped"), "{told}");
    let (_, told) = failure(&mut evaluate("data", &["--split", "test"]));
    assert!(told.contains("has no pictures for test"), "{told}");
}

#[test]
fn head_round_trips_through_pytorch_bit_for_bit() {
    let workspace = Workspace::new();
    success(&mut workspace.train());
    let head = content(&workspace.head(1));
    let exported = workspace.path("linear.safetensors");
    success(fine_tune().arg("export").arg(workspace.head(1)).arg("-o").arg(&exported));
    let bytes = fs_err::read(&exported).unwrap();
    let linear = TensorFile::parse(&bytes).unwrap();
    assert_eq!(linear.values("weight", &[3, head.linear.width()]).unwrap(), head.linear.weight());
    assert_eq!(linear.metadata["labels"], r#"["dark","light","striped"]"#);

    let features = head.features.name();
    let mut import = workspace.fine_tune(&["import", "--task", "part", "--features", features]);
    import
        .args(["--labels", "dark", "--labels", "light", "--labels", "striped", "--good", "light"]);
    import
        .args(["--preprocess", "letterbox:32", "--heads"])
        .arg(workspace.path("heads"))
        .arg(&exported);
    success(&mut import);
    let imported = content(&workspace.head(2));
    assert_eq!(
        (&imported.linear, &imported.classes, &imported.preprocess, &imported.base),
        (&head.linear, &head.classes, &head.preprocess, &head.base)
    );
    let (code, told) = failure(import.args(["--labels", "scratch"]));
    assert_eq!(code, 1);
    assert!(told.contains("4 labels"), "{told}");
}

/// Number of times that `fine-tune train` is killed, unless `TURRET_KILLS` is set.
const KILLS: u32 = 10;
/// The same for fine-tuning, which takes longer.
const KILLS_OF_FINE_TUNING: u32 = 3;

#[test]
fn killed_training_leaves_no_partial_head_and_a_usable_cache() {
    survives_kills(KILLS, &["--strategy", "feature-extraction"]);
}

#[test]
fn killed_fine_tuning_leaves_no_partial_head_and_resumes() {
    survives_kills(KILLS_OF_FINE_TUNING, &["--strategy", "fine-tune", "--fine-tune-epochs", "3"]);
}

fn survives_kills(kills: u32, arguments: &[&str]) {
    let workspace = Workspace::new();
    let train = || {
        let mut command = workspace.train();
        command.args(arguments);
        command
    };
    let started = Instant::now();
    success(&mut train());
    let whole_run = started.elapsed();
    let kills = std::env::var("TURRET_KILLS").map_or(kills, |count| count.parse().unwrap());
    let mut random = ChaCha8Rng::seed_from_u64(5);
    let mut interrupted = 0;
    for kill in 0..kills {
        // Every other run starts with the cache of the one before.
        if kill % 2 == 0 {
            fs_err::remove_dir_all(workspace.path("cache")).unwrap();
        }
        let moment = whole_run.mul_f64(random.random_range(0.1..1.0));
        interrupted += u32::from(killed_after(&mut train(), moment));
        let heads =
            whole_files(&workspace.path("heads"), |bytes| HeadContent::from_bytes(bytes).is_ok());
        whole_files(&workspace.path("cache"), |bytes| TensorFile::parse(bytes).is_ok());
        success(&mut train());
        assert_eq!(content(&workspace.head(heads + 1)).version, heads + 1);
    }
    assert!(interrupted > 0, "every run ended before it was killed");
}

/// Kills the process at this moment, and tells whether it was still running.
fn killed_after(command: &mut Command, moment: Duration) -> bool {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let (sender, ended) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        std::io::copy(&mut stdout, &mut std::io::sink()).unwrap();
        // The receiver is gone if the process was killed before.
        let _ = sender.send(());
    });
    let running = ended.recv_timeout(moment).is_err();
    // Sends SIGKILL; the process may have just ended.
    let _ended = child.kill();
    child.wait().unwrap();
    reader.join().unwrap();
    running
}

/// Counts the visible files below the folder and asserts that all are whole.
///
/// The folder may be missing: a run may be killed before it makes it.
fn whole_files(folder: &Path, is_whole: impl Fn(&[u8]) -> bool) -> u64 {
    let mut waiting = Vec::from_iter(folder.exists().then(|| folder.to_owned()));
    let mut count = 0;
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(fs_err::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.')) {
            assert!(is_whole(&fs_err::read(&path).unwrap()), "{} is not whole", path.display());
            count += 1;
        }
    }
    count
}

/// Returns the numbers that determine a head's verdicts.
fn verdict_numbers(content: &HeadContent) -> (Vec<f32>, Vec<f32>, turret::head::ReferenceSet) {
    (content.linear.weight().to_vec(), content.linear.bias().to_vec(), content.reference.clone())
}

#[test]
fn head_trained_on_a_servers_features_equals_the_local_one() {
    let workspace = Workspace::new();
    success(&mut workspace.train());
    let served = Served::start(&workspace.path("base.safetensors"), &workspace.path("empty-heads"));
    served.wait_for_line("ready");
    let mut command = fine_tune();
    command.args(["train", "--task", "part", "--good", "light", "--output", "json", "--no-cache"]);
    command
        .args(["--preprocess", "letterbox:32", "--server", &served.url()])
        .arg(workspace.path("data"));
    success(command.arg("--heads").arg(workspace.path("remote-heads")));
    let remote = content(&workspace.path("remote-heads/part/00000001.safetensors"));
    let local = content(&workspace.head(1));
    assert!(
        verdict_numbers(&remote) == verdict_numbers(&local),
        "equal pixels on an equal device give equal numbers"
    );
    assert_eq!((&remote.base, &remote.arithmetic), (&local.base, &local.arithmetic));

    let (code, error) = failure(command.arg("--base").arg(workspace.path("base.safetensors")));
    assert!(code == 2 && error.contains("either --base FILE or --server ADDRESS"), "{error}");
}
