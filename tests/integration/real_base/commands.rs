//! The command line with a real network: what a user types, in order.

use std::{
    fs::File,
    io::{PipeReader, Write, pipe},
    path::{Path, PathBuf},
    process::Stdio,
};

use turret::grpc::proto::classifier_client::ClassifierClient;

use crate::support::{
    eventually,
    pictures::request,
    process::{failure, fine_tune, small_data_set, success, turret},
    served::Served,
    server::get,
    within_patience,
};

struct Workspace {
    folder: tempfile::TempDir,
    base: PathBuf,
    heads: PathBuf,
    data: PathBuf,
}

impl Workspace {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("base.safetensors");
        success(turret().args(["base", "random", "resnet18", "-o"]).arg(&base));
        let data = small_data_set(folder.path(), 8);
        let heads = folder.path().join("heads");
        fs_err::create_dir(&heads).unwrap();
        Self { base, heads, data, folder }
    }

    fn train(&self, more: &[&str]) -> std::process::Command {
        let mut command = fine_tune();
        command.arg("train").arg(&self.data);
        command.args([Path::new("--base"), &self.base, Path::new("--heads"), &self.heads]);
        command.args(["--task", "part", "--good", "light", "--epochs", "60"]);
        command.arg("--cache").arg(self.folder.path().join("cache")).args(more);
        command
    }
}

/// Parses an output's JSON lines.
fn json_lines(text: &str) -> Vec<serde_json::Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")))
        .collect()
}

#[test]
fn server_takes_retrained_head_without_a_restart() {
    let workspace = Workspace::new();
    let first = json_lines(&success(&mut workspace.train(&["--output", "json"])));
    let published = first.iter().find(|line| line["event"] == "published").unwrap();
    assert_eq!(published["version"], 1);

    let served = Served::start(&workspace.base, &workspace.heads);
    served.wait_for_line("ready");
    let classify = |more: &[&str]| {
        let mut command = turret();
        command
            .args(["classify", "--server", &served.url(), "--task", "part", "--truth"])
            .args(more);
        command.arg(&workspace.data);
        success(&mut command)
    };
    let answers = json_lines(&classify(&["--json"]));
    assert_eq!(answers.len(), 24);
    let right =
        answers.iter().filter(|line| line["verdicts"][0]["label"] == line["true_label"]).count();
    assert!(right >= 23, "{right} of 24 training pictures are right");
    let passed = answers.iter().filter(|line| line["verdicts"][0]["decision"] == "PASS");
    assert!(passed.clone().count() > 0);
    assert!(
        passed.clone().all(|line| line["verdicts"][0]["label"] == "light"),
        "only the good class passes"
    );
    let table = classify(&["--output", "table"]);
    assert!(table.contains("true label") && table.contains("0 requests failed"), "{table}");

    let second = json_lines(&success(&mut workspace.train(&["--output", "json", "--seed", "2"])));
    let published = second.iter().find(|line| line["event"] == "published").unwrap();
    assert_eq!(published["version"], 2);
    served.wait_for_line("\"version\":2");
    let answers = json_lines(&classify(&["--json", "--require-head", "2"]));
    assert!(answers.iter().all(|line| line["verdicts"][0]["head_version"] == 2));
    let listed =
        json_lines(&success(turret().args(["heads", "--json", "--server", &served.url()])));
    assert_eq!(
        (&listed[0]["task"], &listed[0]["version"], &listed[0]["state"]),
        (&"part".into(), &2.into(), &"SERVING".into())
    );
    assert_eq!(served.terminate(), Some(0));
}

#[test]
fn second_training_finds_every_picture_in_the_cache() {
    let workspace = Workspace::new();
    success(&mut workspace.train(&[]));
    let second = json_lines(&success(&mut workspace.train(&["--output", "json"])));
    let features: Vec<_> = second.iter().filter(|line| line["event"] == "features").collect();
    let last = features.last().unwrap();
    assert_eq!((&last["done"], &last["cached"]), (&24.into(), &24.into()), "{last}");
}

#[test]
fn training_that_cannot_publish_leaves_no_head() {
    let workspace = Workspace::new();
    fs_err::remove_dir_all(workspace.data.join("dark")).unwrap();
    fs_err::create_dir(workspace.data.join("dark")).unwrap();
    fs_err::write(workspace.data.join("dark/only.png"), b"no picture").unwrap();
    let (code, told) = failure(&mut workspace.train(&[]));
    assert_eq!(code, 1);
    assert!(told.contains("dark"), "{told}");
    let heads = fs_err::read_dir(&workspace.heads)
        .unwrap()
        .flat_map(|task| fs_err::read_dir(task.unwrap().path()).unwrap().collect::<Vec<_>>());
    assert_eq!(heads.count(), 0);
}

#[test]
fn missing_base_is_named_and_ends_serve() {
    let heads = tempfile::tempdir().unwrap();
    let mut serve = turret();
    serve.args([
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--base",
        "missing.safetensors",
    ]);
    let (code, told) = failure(serve.arg("--heads").arg(heads.path()));
    assert_eq!(code, 1);
    assert!(told.contains("missing.safetensors"), "{told}");
}

/// Standard errors that cannot be written or are not read; the readers must be kept.
fn useless_outputs() -> (Vec<(&'static str, Stdio)>, PipeReader) {
    let (unread, mut full_pipe) = pipe().unwrap();
    full_pipe.write_all(&[b'x'; 64 << 10]).unwrap();
    let (reader, closed) = pipe().unwrap();
    drop(reader);
    let full_disk = File::options().write(true).open("/dev/full").unwrap();
    let outputs = vec![
        ("full disk", full_disk.into()),
        ("closed pipe", closed.into()),
        ("unread pipe", full_pipe.into()),
    ];
    (outputs, unread)
}

#[tokio::test(flavor = "multi_thread")]
async fn server_whose_log_is_lost_answers_reloads_and_ends_well() {
    let workspace = Workspace::new();
    success(&mut workspace.train(&[]));
    let picture = fs_err::read(workspace.data.join("light/000.png")).unwrap();
    let (outputs, _unread) = useless_outputs();
    for (version, (output, stderr)) in (2..).zip(outputs) {
        let served = Served::start_unheard(&workspace.base, &workspace.heads, stderr).await;
        eventually("ready", async || get(served.admin, "/readyz").await.0 == 200).await;
        let mut client = ClassifierClient::connect(served.url()).await.unwrap();
        let mut of_part = request(&["part"], picture.clone());
        of_part.part_id = "SN123\r\n".to_owned();
        let answer = within_patience(output, client.classify(of_part.clone())).await.unwrap();
        assert_eq!(answer.into_inner().verdicts[0].head_version, version - 1, "{output}");

        success(&mut workspace.train(&["--seed", &version.to_string()]));
        served.signal("-HUP");
        eventually("the new head serves", async || {
            let answer = client.clone().classify(of_part.clone()).await.unwrap();
            answer.into_inner().verdicts[0].head_version == version
        })
        .await;
        assert_eq!(get(served.admin, "/livez").await.0, 200, "{output}");
        if output != "unread pipe" {
            let (_, metrics) = get(served.admin, "/metrics").await;
            assert!(!metrics.contains("turret_log_lines_dropped_total 0"), "{output}");
        }
        let code = tokio::task::spawn_blocking(|| served.terminate()).await.unwrap();
        assert_eq!(code, Some(0), "{output}");
    }
}

#[test]
fn stop_while_the_base_loads_or_warms_up_ends_well() {
    let workspace = Workspace::new();
    // From the first moment into the warm-up, wherever it is on this machine.
    for milliseconds in [0, 100, 300, 600, 1_000, 1_500, 2_000] {
        let served = Served::start(&workspace.base, &workspace.heads);
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        assert_eq!(served.terminate(), Some(0), "after {milliseconds} ms");
    }
}
