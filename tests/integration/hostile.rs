//! Clients that send what no honest one does: refused early, at no cost to others.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use bytes::Bytes;
use prost::Message as _;
use tonic::Code;
use tonic_types::StatusExt;
use turret::grpc::proto::{self, Decision, classifier_client::ClassifierClient};

use crate::support::{
    TestServer, eventually, heads,
    pictures::{plain, request},
    process::success,
    raw::RawClient,
    within_patience,
};

/// Returns a message of so many tasks without a name, two bytes each.
fn empty_names(request_id: &str, count: usize) -> Bytes {
    let request_id = request_id.to_owned();
    let mut message = proto::ClassifyRequest { request_id, ..Default::default() }.encode_to_vec();
    message.extend([0x0a, 0].repeat(count));
    message.into()
}

async fn server_of_part() -> TestServer {
    let builder = TestServer::builder();
    heads::publish(builder.heads(), &heads::draft("part", 0.0));
    builder.start_fake().await.0
}

/// Set for a test's second process, which no other test disturbs.
const MEASURED: &str = "TURRET_TEST_MEASURED";

fn peak_memory() -> u64 {
    let status = procfs::process::Process::myself().unwrap().status().unwrap();
    status.vmhwm.unwrap() << 10
}

/// Runs this test again in a process of its own, whose memory no other test touches.
#[test]
fn sixty_megabytes_of_empty_names_cost_their_own_bytes() {
    let test = "hostile::sixty_megabytes_of_empty_names_cost_their_own_bytes";
    if std::env::var_os(MEASURED).is_none() {
        let mut alone = Command::new(std::env::current_exe().unwrap());
        success(alone.args([test, "--exact", "--nocapture"]).env(MEASURED, "yes"));
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = server_of_part().await;
        let mut client = RawClient::new(server.channel().await);
        let message = empty_names("many", 30_000_000);
        let size = message.len() as u64;
        let before = peak_memory();
        let status = client.classify(message).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "found 30000000 tasks, expected at most 1024");
        let reason = status.get_error_details().error_info().unwrap().reason.clone();
        assert_eq!(reason, "TASKS_TOO_MANY");
        // The client's copy and the server's; built, the names alone take 720 MB.
        let growth = peak_memory() - before;
        assert!(growth < 5 * size, "{growth} bytes for a message of {size}");
    });
}

#[tokio::test]
async fn too_many_names_on_a_stream_get_one_verdict_and_it_goes_on() {
    let server = server_of_part().await;
    let mut part = request(&["part"], plain(1));
    part.request_id = "part".to_owned();
    let messages = vec![empty_names("many", 1_000_000), part.encode_to_vec().into()];
    let mut client = RawClient::new(server.channel().await);
    let mut answers = client.stream::<proto::ClassifyResponse>("ClassifyStream", messages).await;
    let mut found = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        found.push(answer);
    }
    found.sort_by(|one, other| one.request_id.cmp(&other.request_id));
    let [many, part] = &found[..] else { panic!("{found:?}") };
    assert_eq!((many.request_id.as_str(), many.verdicts.len()), ("many", 1));
    let verdict = &many.verdicts[0];
    assert_eq!(verdict.decision(), Decision::NotJudged);
    let error = verdict.error.as_ref().unwrap();
    assert_eq!(error.message, "found 1000000 tasks, expected at most 1024");
    assert_ne!(part.verdicts[0].decision(), Decision::NotJudged, "{part:?}");
}

#[tokio::test]
async fn long_id_on_an_embed_stream_is_answered_and_it_goes_on() {
    let server = server_of_part().await;
    let image = request(&[], plain(1)).image;
    let with_id = |id: &str| proto::EmbedRequest {
        request_id: id.to_owned(),
        image: image.clone(),
        ..Default::default()
    };
    let messages = [with_id(&"x".repeat(1 << 20)), with_id("part")]
        .map(|request| Bytes::from(request.encode_to_vec()));
    let mut client = RawClient::new(server.channel().await);
    let mut answers = client.stream::<proto::EmbedResponse>("Embed", messages.to_vec()).await;
    let mut found = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        found.push(answer);
    }
    found.sort_by(|one, other| one.request_id.cmp(&other.request_id));
    let [part, refused] = &found[..] else { panic!("{found:?}") };
    assert_eq!(refused.error.as_ref().unwrap().reason, "ID_TOO_LONG");
    assert_eq!(refused.request_id, "x".repeat(128));
    assert!(part.request_id == "part" && part.error.is_none(), "{part:?}");
}

#[tokio::test]
async fn connection_over_the_maximum_waits_until_one_ends() {
    let builder = TestServer::builder().grpc(|limits| limits.max_connections = 1);
    heads::publish(builder.heads(), &heads::draft("part", 0.0));
    let (server, _control) = builder.start_fake().await;
    let mut first = server.plain_classifier();
    assert!(first.classify(request(&["part"], plain(1))).await.is_ok());
    let mut second = server.plain_classifier();
    let waiting = tokio::spawn(async move { second.classify(request(&["part"], plain(2))).await });
    assert!(first.classify(request(&["part"], plain(3))).await.is_ok());
    assert!(!waiting.is_finished());
    drop(first);
    assert!(within_patience("the one that waited", waiting).await.unwrap().is_ok());
}

#[tokio::test]
async fn connection_of_its_age_is_closed_and_its_stream_goes_on() {
    let age = Duration::from_millis(100);
    let builder = TestServer::builder().grpc(|limits| limits.max_connection_age = age);
    heads::publish(builder.heads(), &heads::draft("part", 0.0));
    let (server, _control) = builder.start_fake().await;
    let mut client = server.plain_classifier();
    let (requests, receiver) = tokio::sync::mpsc::channel(1);
    let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut answers = client.classify_stream(stream).await.unwrap().into_inner();
    let begun = Instant::now();
    while begun.elapsed() < 3 * age {
        requests.send(request(&["part"], plain(1))).await.unwrap();
        answers.message().await.unwrap().unwrap();
    }
    drop(requests);
    assert!(answers.message().await.unwrap().is_none(), "the stream ended as its client ended it");
    assert!(client.classify(request(&["part"], plain(2))).await.is_ok(), "on a new connection");
}

/// Serves with few descriptors, for [`running_out_of_descriptors_neither_spins_nor_ends_anything`].
#[expect(clippy::print_stderr, reason = "the other process reads the address")]
fn serve_until_told() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = server_of_part().await;
        eprintln!("address {}", server.grpc);
        // Ends when the other process closes its end.
        let told = tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin()));
        told.await.unwrap().unwrap();
    });
}

#[tokio::test]
async fn running_out_of_descriptors_neither_spins_nor_ends_anything() {
    let test = "hostile::running_out_of_descriptors_neither_spins_nor_ends_anything";
    if std::env::var_os(MEASURED).is_some() {
        return tokio::task::spawn_blocking(serve_until_told).await.unwrap();
    }
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 64 && exec \"$0\" \"$@\""]);
    limited.arg(std::env::current_exe().unwrap()).args([test, "--exact", "--nocapture"]);
    limited.env(MEASURED, "yes").stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut child = limited.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = lines
        .find_map(|line| line.unwrap().strip_prefix("address ").map(str::to_owned))
        .expect("the server tells its address");
    let address = format!("http://{address}");
    let mut early = ClassifierClient::connect(address.clone()).await.unwrap();
    assert!(early.classify(request(&["part"], plain(1))).await.is_ok());
    // The system accepts them into the backlog; the server has no descriptors for all.
    let target = address.strip_prefix("http://").unwrap();
    let flood: Vec<_> = (0..100).map(|_| std::net::TcpStream::connect(target).unwrap()).collect();
    let server = procfs::process::Process::new(i32::try_from(child.id()).unwrap()).unwrap();
    eventually("its descriptors ran out", async || server.fd_count().unwrap() >= 64).await;
    let ticks = || server.stat().map(|stat| stat.utime + stat.stime).unwrap();
    let before = ticks();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let used = Duration::from_millis(10) * u32::try_from(ticks() - before).unwrap();
    assert!(used < Duration::from_millis(200), "it spins: {used:?} of 500 ms");
    assert!(early.classify(request(&["part"], plain(2))).await.is_ok());
    drop(flood);
    let late = async || ClassifierClient::connect(address.clone()).await.unwrap();
    let mut late = within_patience("a place", late()).await;
    assert!(late.classify(request(&["part"], plain(3))).await.is_ok());
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

/// Returns a small picture's request, padded by an unknown field.
fn padded(bytes: usize) -> Bytes {
    let mut message = request(&["part"], plain(1)).encode_to_vec();
    message.extend([0x82, 0x7d]);
    prost::encode_length_delimiter(bytes, &mut message).unwrap();
    message.resize(message.len() + bytes, 0);
    message.into()
}

#[tokio::test]
async fn padded_messages_count_with_all_that_they_keep_in_memory() {
    let builder = TestServer::builder().engine(|engine| engine.max_queue_bytes = 16 << 20);
    heads::publish(builder.heads(), &heads::draft("part", 0.0));
    let (server, control) = builder.start_fake().await;
    control.hold();
    let mut asked = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let mut client = RawClient::new(server.channel().await);
        asked.spawn(async move { client.classify(padded(1 << 20)).await });
    }
    // Each keeps a little over 1 MiB, so 15 fit.
    for _ in 0..49 {
        let next = within_patience("a refusal", asked.join_next()).await;
        let status = next.unwrap().unwrap().unwrap_err();
        let reason = status.get_error_details().error_info().unwrap().reason.clone();
        assert_eq!((status.code(), reason.as_str()), (Code::ResourceExhausted, "QUEUE_BYTES_FULL"));
    }
    control.release();
    while let Some(answer) = asked.join_next().await {
        assert!(answer.unwrap().is_ok());
    }
}

#[tokio::test]
async fn requests_over_the_receive_budget_are_refused_with_retry_info() {
    let builder = TestServer::builder().grpc(|limits| {
        limits.max_message_bytes = 1 << 20;
        limits.max_receive_bytes = 2 << 20;
    });
    heads::publish(builder.heads(), &heads::draft("part", 0.0));
    let (server, _control) = builder.start_fake().await;
    // Streams that stay open keep the room of their largest message.
    let mut streams = Vec::new();
    for _ in 0..2 {
        let (requests, receiver) = tokio::sync::mpsc::channel(1);
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let mut client = server.plain_classifier();
        let mut answers = client.classify_stream(stream).await.unwrap().into_inner();
        requests.send(request(&["part"], vec![0; 900 << 10])).await.unwrap();
        within_patience("an answer", answers.message()).await.unwrap().unwrap();
        streams.push((client, requests, answers));
    }
    let mut client = server.plain_classifier();
    let status = client.classify(request(&["part"], vec![0; 300 << 10])).await.unwrap_err();
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.as_str());
    assert_eq!((status.code(), reason), (Code::ResourceExhausted, Some("RECEIVING_FULL")));
    assert!(details.retry_info().is_some());
    drop(streams);
    let fits = async || client.clone().classify(request(&["part"], plain(1))).await.is_ok();
    eventually("the room is given back", fits).await;
}
