//! The log: its lines, and what a log that cannot be written costs.
//!
//! A process has one log, so each of these tests runs again in a process of its own.

use std::{
    env,
    fs::File,
    io::{Write, pipe},
    process::{Command, Output, Stdio},
    time::Duration,
};

use tracing_subscriber::EnvFilter;
use turret::{
    grpc::{VerdictLog, proto},
    log::{self, LogFormat, LogWriter},
};

use crate::support::{
    PATIENCE, TestServer, eventually, heads,
    pictures::{plain, request},
    process::{outcome, turret},
    within_patience,
};

const ALONE: &str = "TURRET_TEST_ALONE";
/// The usual room of a pipe on Linux, in bytes.
const PIPE_ROOM: usize = 64 << 10;

/// Runs this test again with this standard error, or returns `None` if this is that run.
fn again(name: &str, stderr: impl Into<Stdio>) -> Option<Output> {
    if env::var_os(ALONE).is_some() {
        return None;
    }
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", &format!("logging::{name}"), "--nocapture"]).env(ALONE, "1");
    Some(outcome(command.stderr(stderr).stdout(Stdio::piped()).spawn().unwrap()))
}

fn assert_success(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

fn start_log() -> LogWriter {
    log::start(EnvFilter::new("info"), LogFormat::Text).unwrap()
}

fn of_part(part: &str, red: u8) -> proto::ClassifyRequest {
    proto::ClassifyRequest { part_id: part.to_owned(), ..request(&["part"], plain(red)) }
}

/// Does all that writes to the log, while the log takes more lines than it has room for.
#[tokio::main]
async fn serve_and_lose_lines() {
    let log = start_log();
    // More than a pipe and the writer hold.
    let filler = "x".repeat(PIPE_ROOM);
    (0..100).for_each(|_| tracing::info!(filler));
    let builder = TestServer::builder().dropped_lines(log.dropped());
    heads::publish(builder.heads(), &heads::draft("part", 0.0));
    let (mut server, _control) = builder.start_fake().await;
    let mut client = server.classifier().await;
    within_patience("requests with a part", async {
        for red in 0..100 {
            client.classify(of_part("SN123", red)).await.unwrap();
        }
    })
    .await;
    let published = heads::publish(&server.heads, &heads::draft("part", 1.0));
    server.wait_for_serving("part", published.version).await;
    std::thread::spawn(|| panic!("this is logged too")).join().unwrap_err();
    assert_eq!(server.get("/livez").await.0, 200);
    eventually("dropped lines are shown", async || {
        server.metric("turret_log_lines_dropped_total").await.unwrap() > 0.0
    })
    .await;
    within_patience("the server to end", server.stop()).await.unwrap().unwrap();
    log.flush(Duration::from_millis(100));
}

#[test]
fn full_disk_behind_the_log_costs_lines_only() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    match again("full_disk_behind_the_log_costs_lines_only", full) {
        Some(output) => assert_success(&output),
        None => serve_and_lose_lines(),
    }
}

#[test]
fn closed_pipe_behind_the_log_costs_lines_only() {
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    match again("closed_pipe_behind_the_log_costs_lines_only", writer) {
        Some(output) => assert_success(&output),
        None => serve_and_lose_lines(),
    }
}

#[test]
fn pipe_that_nobody_reads_costs_lines_only() {
    let (_reader, writer) = pipe().unwrap();
    match again("pipe_that_nobody_reads_costs_lines_only", writer) {
        Some(output) => assert_success(&output),
        None => serve_and_lose_lines(),
    }
}

#[tokio::main]
async fn log_verdicts() {
    let log = start_log();
    let choices =
        [("all", VerdictLog::All), ("rejects", VerdictLog::Rejects), ("off", VerdictLog::Off)];
    for (name, choice) in choices {
        let builder = TestServer::builder().verdict_log(choice);
        heads::publish(builder.heads(), &heads::draft("part", 0.0));
        let (server, _control) = builder.start_fake().await;
        let mut client = server.classifier().await;
        for red in [250, 3] {
            let part = format!("{name}\r\n\u{1b}[2J");
            client.classify(of_part(&part, red)).await.unwrap();
        }
        client.classify(request(&["part"], plain(4))).await.unwrap();
        let lost = request(&["part"], b"no picture".to_vec());
        let lost = proto::ClassifyRequest { part_id: "lost".to_owned(), ..lost };
        client.classify(lost).await.unwrap_err();
    }
    log.flush(PATIENCE);
}

#[test]
fn verdicts_on_parts_are_logged_as_chosen() {
    let Some(output) = again("verdicts_on_parts_are_logged_as_chosen", Stdio::piped()) else {
        return log_verdicts();
    };
    assert_success(&output);
    let text = String::from_utf8(output.stderr).unwrap();
    let verdicts: Vec<&str> = text.lines().filter(|line| line.contains(": verdict ")).collect();
    let found = verdicts.iter().map(|line| {
        let value = |name: &str| line.split_once(name).unwrap().1.split(' ').next().unwrap();
        (value("part_id="), value("decision="))
    });
    let escaped = |name: &str| format!("\"{name}\\r\\n\\u{{1b}}[2J\"");
    let (all, rejects) = (escaped("all"), escaped("rejects"));
    let (pass, reject) = ("DECISION_PASS", "DECISION_REJECT");
    let expected = [(all.as_str(), pass), (&all, reject), (&rejects, reject)];
    assert!(found.eq(expected), "{text}");
    let lost = "not judged part_id=lost tasks=part decision=DECISION_NOT_JUDGED \
                reason=IMAGE_FORMAT_UNKNOWN";
    // By `all` and by `rejects`.
    assert_eq!(text.matches(lost).count(), 2, "{text}");
}

#[test]
fn failing_serve_ends_with_its_code_whatever_stderr_is() {
    let heads = tempfile::tempdir().unwrap();
    let (_reader, mut unread) = pipe().unwrap();
    unread.write_all(&vec![b'x'; PIPE_ROOM]).unwrap();
    let (reader, closed) = pipe().unwrap();
    drop(reader);
    let full = File::options().write(true).open("/dev/full").unwrap();
    for (name, stderr) in
        [("unread", Stdio::from(unread)), ("closed", closed.into()), ("full", full.into())]
    {
        let mut serve = turret();
        serve.args(["serve", "--base", "missing.safetensors", "--heads"]).arg(heads.path());
        serve.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        let output = outcome(serve.stderr(stderr).spawn().unwrap());
        assert_eq!(output.status.code(), Some(1), "{name}");
    }
}
