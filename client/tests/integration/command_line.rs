//! `turretctl` as users run it.

use std::{
    ffi::OsStr,
    fs::File,
    io::{BufRead, BufReader, pipe},
    os::unix::ffi::OsStrExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use turret_client::Code;

use crate::fake_server::{FakeServer, Reply, failure};

/// Returns the program's command without settings from the environment.
fn turretctl(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turretctl"));
    for variable in ["SERVER", "TASK", "CONCURRENCY", "OUTPUT"] {
        command.env_remove(format!("TURRET_{variable}"));
    }
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Runs the program without blocking the test's server.
async fn run(mut command: Command) -> (Option<i32>, String, String) {
    let run = tokio::task::spawn_blocking(move || command.spawn()?.wait_with_output());
    let Output { status, stdout, stderr } = run.await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn classify(server: &FakeServer, picture: &Path, more: &[&str]) -> Command {
    let mut command = turretctl(&["classify", "--server", &server.url(), "--task", "bracket,seal"]);
    command.args(more).arg(picture).stdout(Stdio::piped());
    command
}

fn heads(server: &FakeServer, more: &[&str]) -> Command {
    let mut command = turretctl(&["heads", "--server", &server.url()]);
    command.args(more).stdout(Stdio::piped());
    command
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn pictures(names: &[&OsStr]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        fs_err::write(folder.path().join(name), b"as good as any").unwrap();
    }
    folder
}

#[tokio::test]
async fn classify_prints_a_json_line_per_picture() {
    let server = FakeServer::start(|_| Reply::Verdicts).await;
    let names = ["a.png", ".hidden.png", "b.png"].map(OsStr::new);
    let folder = pictures(&names);
    let (code, out, error) = run(classify(&server, folder.path(), &["--truth"])).await;
    assert_eq!(code, Some(0), "{error}");
    let lines = json_lines(&out);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["file"], folder.path().join("a.png").to_str().unwrap());
    assert_eq!(lines[1]["verdicts"][1]["task"], "seal");
    assert_eq!(lines[1]["verdicts"][1]["decision"], "PASS");
    assert_eq!(lines[0]["true_label"], folder.path().file_name().unwrap().to_str().unwrap());
}

#[tokio::test]
async fn classify_shows_a_failed_picture_without_retrying_it() {
    let full = || failure(Code::ResourceExhausted, Some(std::time::Duration::from_millis(1)));
    let server = FakeServer::start(move |_| Reply::Fail(full())).await;
    let folder = pictures(&[OsStr::new("a.png")]);
    let (code, out, error) = run(classify(&server, folder.path(), &["--output", "table"])).await;
    assert_eq!((code, server.attempts().len()), (Some(1), 1), "{error}");
    assert!(out.contains("RESOURCE_EXHAUSTED (SOME_REASON): as the test says"), "{out}");
    assert!(out.ends_with("0 verdicts, 1 request failed\n"), "{out}");
}

#[tokio::test]
async fn classify_shows_names_that_are_not_utf8() {
    let server = FakeServer::start(|_| Reply::Verdicts).await;
    let folder = pictures(&[OsStr::from_bytes(b"\xff.png")]);
    let (code, out, error) = run(classify(&server, folder.path(), &["--json"])).await;
    assert_eq!(code, Some(0), "{error}");
    let file = json_lines(&out)[0]["file"].as_str().unwrap().to_owned();
    assert!(file.ends_with("\u{fffd}.png"), "{file}");
    let (code, out, error) = run(classify(&server, folder.path(), &["--output", "table"])).await;
    assert!(code == Some(0) && out.contains("\u{fffd}.png"), "{error}");
}

#[tokio::test]
async fn heads_prints_json_lines_or_a_table() {
    let server = FakeServer::start(|_| Reply::Verdicts).await;
    let (code, out, _) = run(heads(&server, &["--task", "bracket", "--json"])).await;
    let lines = json_lines(&out);
    assert_eq!((code, lines.len()), (Some(0), 2));
    assert_eq!((&lines[1]["state"], &lines[1]["version"]), (&"REJECTED".into(), &3.into()));
    let (code, out, _) = run(heads(&server, &["--output", "table"])).await;
    assert!(code == Some(0) && out.contains("branch") && out.contains("seal"), "{out}");
}

#[tokio::test]
async fn watch_prints_events_until_the_server_ends_it() {
    let server = FakeServer::start(|_| Reply::Verdicts).await;
    let (code, out, error) = run(heads(&server, &["--watch", "--output", "table"])).await;
    assert_eq!((code, out.lines().count()), (Some(1), 2), "{out}");
    assert!(out.starts_with("SERVING    bracket version 2"), "{out}");
    assert_eq!(error, "turretctl: UNAVAILABLE (SOME_REASON): as the test says\n");
}

#[tokio::test]
async fn closed_pipe_ends_every_command_quietly() {
    let server = FakeServer::start(|_| Reply::Verdicts).await;
    let folder = pictures(&[OsStr::new("a.png")]);
    let commands = [
        classify(&server, folder.path(), &["--json"]),
        classify(&server, folder.path(), &["--output", "table"]),
        heads(&server, &["--json"]),
        heads(&server, &["--watch"]),
    ];
    for mut command in commands {
        let (reader, writer) = pipe().unwrap();
        drop(reader);
        command.stdout(writer);
        let (code, _, error) = run(command).await;
        assert_eq!((code, error.as_str()), (Some(0), ""));
    }
}

#[tokio::test]
async fn full_disk_is_an_error_not_a_panic() {
    let server = FakeServer::start(|_| Reply::Verdicts).await;
    for mut command in [heads(&server, &["--json"]), turretctl(&["--help"])] {
        command.stdout(File::options().write(true).open("/dev/full").unwrap());
        let (code, _, error) = run(command).await;
        assert_eq!(code, Some(1));
        assert!(error.starts_with("turretctl: cannot write to standard output: "), "{error}");
    }
}

#[tokio::test]
async fn unwritable_standard_error_changes_no_exit_code() {
    for arguments in [&["heads", "--server", "http://127.0.0.1:1"][..], &["classify", "a.png"]] {
        let expected = run(turretctl(arguments)).await.0;
        let mut command = turretctl(arguments);
        command.stderr(File::options().write(true).open("/dev/full").unwrap());
        assert_eq!(run(command).await.0, expected, "{arguments:?}");
    }
}

#[tokio::test]
async fn classify_prints_each_answer_before_the_last_request_ends() {
    let answer_the_first = |number| if number == 0 { Reply::Verdicts } else { Reply::Silence };
    let server = FakeServer::start(answer_the_first).await;
    let folder = pictures(&["a.png", "b.png"].map(OsStr::new));
    let concurrency = ["--concurrency", "1"];
    for form in ["json", "table"] {
        let mut command =
            classify(&server, folder.path(), &[&concurrency[..], &["--output", form]].concat());
        server.forget_attempts();
        let printed = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let found = lines.map_while(Result::ok).find(|line| line.contains("a.png"));
            child.kill().unwrap();
            child.wait().unwrap();
            found
        });
        assert!(printed.await.unwrap().is_some(), "{form}");
    }
}

#[tokio::test]
async fn folder_without_pictures_is_an_error_in_every_form() {
    let server = FakeServer::start(|_| Reply::Verdicts).await;
    let folder = pictures(&[]);
    for form in ["json", "table"] {
        let (code, out, error) = run(classify(&server, folder.path(), &["--output", form])).await;
        assert_eq!((code, out.as_str()), (Some(1), ""));
        assert!(error.starts_with("turretctl: no pictures in /"), "{error}");
    }
}

#[tokio::test]
async fn failed_picture_carries_code_and_reason_in_json() {
    let server = FakeServer::start(|_| Reply::Fail(failure(Code::NotFound, None))).await;
    let folder = pictures(&[OsStr::new("a.png")]);
    let (code, out, _) = run(classify(&server, folder.path(), &["--json"])).await;
    let line = &json_lines(&out)[0];
    assert_eq!(code, Some(1));
    assert_eq!((&line["code"], &line["reason"]), (&"NOT_FOUND".into(), &"SOME_REASON".into()));
}

#[tokio::test]
async fn file_names_with_control_characters_do_not_break_the_lines() {
    let server = FakeServer::start(|_| Reply::Verdicts).await;
    let folder = pictures(&[OsStr::new("a\n\u{1b}[2J.png")]);
    let (_, out, _) = run(classify(&server, folder.path(), &["--output", "table"])).await;
    assert_eq!(out.lines().count(), 4, "header, two tasks and totals: {out}");
    assert!(out.contains("a\\n\\u001b[2J.png"), "{out}");
}

#[tokio::test]
async fn invalid_values_name_what_is_expected() {
    for (arguments, expected) in [
        (["--concurrency", "0"], "expected a whole number from 1 to 1024, such as 8"),
        (["--concurrency", "-1"], "expected a whole number from 1 to 1024, such as 8"),
        (["--timeout", "soon"], "expected a time, such as 500ms or 30s"),
        (["--roi", "1,2,x"], "expected four whole numbers X,Y,WIDTH,HEIGHT"),
    ] {
        let command = ["classify", "--task", "t", "a.png"];
        let (code, _, error) = run(turretctl(&[&command[..], &arguments].concat())).await;
        assert!(code == Some(2) && error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn server_is_named_by_host_and_port_or_by_port_alone() {
    let server = FakeServer::start(|_| Reply::Verdicts).await;
    let url = server.url();
    let address = url.strip_prefix("http://").unwrap();
    let port = address.strip_prefix("127.0.0.1").unwrap();
    for address in [address, port] {
        let mut command = turretctl(&["heads", "--server", address, "--json"]);
        command.stdout(Stdio::piped());
        let (code, out, error) = run(command).await;
        assert_eq!((code, json_lines(&out).len()), (Some(0), 3), "{address}: {error}");
    }
    let (code, _, error) = run(turretctl(&["heads", "--server", "::1:50051"])).await;
    assert!(code == Some(2) && error.contains("HOST:PORT such as"), "{error}");
}

#[tokio::test]
async fn unreachable_server_is_named_in_one_line() {
    let (code, _, error) = run(turretctl(&["heads", "--server", "http://127.0.0.1:1"])).await;
    assert_eq!(code, Some(1));
    assert!(error.starts_with("turretctl: cannot reach http://127.0.0.1:1 "), "{error}");
    assert_eq!((error.lines().count(), error.matches("connect error").count()), (1, 1), "{error}");
}

#[tokio::test]
async fn wrong_command_exits_with_two() {
    let (code, _, error) = run(turretctl(&["classify", "a.png"])).await;
    assert!(code == Some(2) && error.contains("--task"), "{error}");
}
