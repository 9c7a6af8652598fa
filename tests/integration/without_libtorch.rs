//! The programs built without libtorch.

use std::{
    ffi::OsStr,
    fs::File,
    io::pipe,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::Stdio,
};

use turret::head::HeadContent;

use crate::support::{
    TestServer,
    process::{failure, fine_tune, small_data_set, success, turret},
};

#[test]
fn serve_and_local_training_answer_built_without_libtorch() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base.safetensors");
    success(turret().args(["base", "random", "resnet18", "-o"]).arg(&base));
    let heads = [Path::new("--base"), &base, Path::new("--heads"), folder.path()];
    let (code, told) = failure(turret().arg("serve").args(heads));
    assert!(code == 1 && told.contains("built without libtorch"), "{told}");
    let mut train = fine_tune();
    train.args(["train", "--task", "part"]).args(heads).arg(small_data_set(folder.path(), 4));
    let (code, told) = failure(&mut train);
    assert!(
        code == 1 && told.contains("built without libtorch") && told.contains("--server"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn training_on_a_servers_features_publishes_a_linear_head() {
    let builder = TestServer::builder();
    let (server, _control) = builder.start_fake().await;
    let folder = tempfile::tempdir().unwrap();
    let heads = folder.path().join("heads");
    let data = small_data_set(folder.path(), 8);
    let url = format!("http://{}", server.grpc);
    let train = |strategy: &'static str| {
        let mut command = fine_tune();
        command.args([
            "train",
            "--task",
            "part",
            "--good",
            "light",
            "--no-cache",
            "--output",
            "json",
        ]);
        command
            .args(["--server", &url, "--strategy", strategy])
            .arg(&data)
            .arg("--heads")
            .arg(&heads);
        command
    };
    let mut auto = train("auto");
    tokio::task::spawn_blocking(move || success(&mut auto)).await.unwrap();
    let bytes = fs_err::read(heads.join("part/00000001.safetensors")).unwrap();
    let head = HeadContent::from_bytes(&bytes).unwrap();
    assert!(head.branch.is_none());
    assert_eq!(head.evidence["strategy"]["because"]["reason"], "built_without_libtorch");

    let mut deep = train("fine-tune");
    let (code, told) = tokio::task::spawn_blocking(move || failure(&mut deep)).await.unwrap();
    assert!(code == 1 && told.contains("built without libtorch"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn training_names_what_it_cannot_read_and_publishes_nothing() {
    let (server, _control) = TestServer::builder().start_fake().await;
    let address = server.grpc.to_string();
    let folder = tempfile::tempdir().unwrap();
    let heads = folder.path().join("heads");
    let data = small_data_set(folder.path(), 2);
    let train = |data: &Path| {
        let mut command = fine_tune();
        command.args(["train", "--task", "part", "--good", "light", "--no-cache"]);
        command.args(["--output", "json", "--server", &address]);
        command.arg(data).arg("--heads").arg(&heads);
        command
    };
    let list = folder.path().join("list.csv");
    fs_err::write(&list, "path,label\r\ndata/dark/000.png,dark\r\nnowhere.png,dark\r\n").unwrap();
    let mut of_list = train(&list);
    let (_, told) = tokio::task::spawn_blocking(move || failure(&mut of_list)).await.unwrap();
    assert!(told.contains("list.csv:\n  line 3: no such file: "), "{told}");

    fs_err::create_dir(data.join("dark/cam1")).unwrap();
    for name in ["000.png", "001.png"] {
        fs_err::rename(data.join("dark").join(name), data.join("dark/cam1").join(name)).unwrap();
    }
    let mut nested = train(&data);
    let (_, told) = tokio::task::spawn_blocking(move || failure(&mut nested)).await.unwrap();
    assert!(told.contains("class \"dark\"") && told.contains("dark/cam1, which"), "{told}");
    assert!(!heads.join("part/00000001.safetensors").exists());

    fs_err::remove_dir_all(data.join("dark")).unwrap();
    let mut small = train(&data);
    let told = tokio::task::spawn_blocking(move || success(&mut small)).await.unwrap();
    assert!(told.contains("\"kind\":\"few_pictures\""), "{told}");
    assert!(heads.join("part/00000001.safetensors").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn training_whose_output_is_lost_still_publishes() {
    let builder = TestServer::builder();
    let (server, _control) = builder.start_fake().await;
    let folder = tempfile::tempdir().unwrap();
    let data = small_data_set(folder.path(), 8);
    fs_err::write(data.join("light").join(OsStr::from_bytes(b"\xff.txt")), b"no picture").unwrap();
    let url = format!("http://{}", server.grpc);
    let train = |heads: PathBuf, stdout: Stdio| {
        let mut command = fine_tune();
        command.args(["train", "--task", "part", "--no-cache", "--output", "json"]);
        command.args(["--server", &url, "--heads"]).arg(&heads).arg(&data);
        command.stdout(stdout).stderr(Stdio::piped());
        tokio::task::spawn_blocking(move || {
            let output = command.spawn().unwrap().wait_with_output().unwrap();
            assert!(heads.join("part/00000001.safetensors").exists(), "{output:?}");
            output
        })
    };
    let told = train(folder.path().join("told"), Stdio::piped()).await.unwrap();
    assert_eq!(told.status.code(), Some(0));
    let lines = String::from_utf8(told.stdout).unwrap();
    assert!(lines.contains("\u{fffd}.txt\""), "{lines}");

    let (reader, closed) = pipe().unwrap();
    drop(reader);
    let closed = train(folder.path().join("closed"), closed.into()).await.unwrap();
    assert_eq!((closed.status.code(), closed.stderr.as_slice()), (Some(0), &b""[..]));

    let full = File::options().write(true).open("/dev/full").unwrap();
    let full = train(folder.path().join("full"), full.into()).await.unwrap();
    let told = String::from_utf8_lossy(&full.stderr);
    assert_eq!(full.status.code(), Some(1), "{told}");
    assert!(told.contains("cannot write to standard output: No space left"), "{told}");
}
