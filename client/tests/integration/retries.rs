//! Which calls are retried, when, and until when.

use std::time::{Duration, Instant};

use tokio::{io::copy_bidirectional, net::TcpListener};
use turret_client::{Client, Code, Error, RetryPolicy, proto::ClassifyRequest};

use crate::fake_server::{FakeServer, Reply, failure};

const MS: Duration = Duration::from_millis(1);

fn request() -> ClassifyRequest {
    ClassifyRequest::new(vec![1, 2, 3], ["bracket"])
}

/// Returns a policy whose backoff is never longer than a test server's RetryInfo.
fn quick() -> RetryPolicy {
    RetryPolicy { initial_backoff: MS, max_backoff: MS, ..RetryPolicy::default() }
}

async fn client(server: &FakeServer) -> Client {
    Client::builder(server.url()).retry(quick()).connect().await.unwrap()
}

#[tokio::test]
async fn retry_waits_for_the_servers_retry_info() {
    let server = FakeServer::start(|number| match number {
        0 | 1 => Reply::Fail(failure(Code::ResourceExhausted, Some(60 * MS))),
        _ => Reply::Verdicts,
    })
    .await;
    let response = client(&server).await.classify(request()).await.unwrap();
    assert_eq!(response.verdicts.len(), 1);
    let attempts = server.attempts();
    assert_eq!(attempts.len(), 3);
    for pair in attempts.windows(2) {
        assert!(pair[1].at - pair[0].at >= 60 * MS, "{attempts:?}");
    }
}

#[tokio::test]
async fn unavailable_server_is_retried() {
    let server = FakeServer::start(|number| match number {
        0..3 => Reply::Fail(failure(Code::Unavailable, None)),
        _ => Reply::Verdicts,
    })
    .await;
    client(&server).await.classify(request()).await.unwrap();
    assert_eq!(server.attempts().len(), 4);
}

#[tokio::test]
async fn permanent_error_is_returned_at_once_with_its_details() {
    let server = FakeServer::start(|_| Reply::Fail(failure(Code::InvalidArgument, None))).await;
    let error = client(&server).await.classify(request()).await.unwrap_err();
    assert_eq!(server.attempts().len(), 1);
    assert_eq!(error.to_string(), "INVALID_ARGUMENT (SOME_REASON): as the test says");
    assert_eq!((error.code(), error.reason()), (Some(Code::InvalidArgument), Some("SOME_REASON")));
    let Error::Call { field, .. } = error else { panic!("{error:?}") };
    assert_eq!(field.as_deref(), Some("roi"));
}

#[tokio::test]
async fn policy_of_one_attempt_never_retries() {
    let server =
        FakeServer::start(|_| Reply::Fail(failure(Code::ResourceExhausted, Some(MS)))).await;
    let client = Client::builder(server.url()).retry(RetryPolicy::NEVER).connect().await.unwrap();
    let error = client.classify(request()).await.unwrap_err();
    assert_eq!((error.code(), server.attempts().len()), (Some(Code::ResourceExhausted), 1));
    let Error::Call { retry_after, .. } = error else { panic!("{error:?}") };
    assert_eq!(retry_after, Some(MS));
}

#[tokio::test]
async fn call_gives_up_if_the_next_wait_passes_the_deadline() {
    let minute = Duration::from_secs(60);
    let server =
        FakeServer::start(move |_| Reply::Fail(failure(Code::ResourceExhausted, Some(minute))))
            .await;
    let begun = Instant::now();
    let error = client(&server).await.classify_within(request(), minute / 2).await.unwrap_err();
    assert_eq!((error.code(), server.attempts().len()), (Some(Code::ResourceExhausted), 1));
    assert!(begun.elapsed() < minute / 4, "the call does not wait");
}

#[tokio::test]
async fn unanswered_call_ends_at_the_deadline() {
    let server = FakeServer::start(|_| Reply::Silence).await;
    let begun = Instant::now();
    let error = client(&server).await.classify_within(request(), 200 * MS).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::DeadlineExceeded), "{error}");
    assert!(begun.elapsed() >= 200 * MS);
}

#[tokio::test]
async fn every_attempt_carries_the_remaining_time() {
    let total = Duration::from_secs(20);
    let server = FakeServer::start(|number| match number {
        0..4 => Reply::Fail(failure(Code::Unavailable, Some(20 * MS))),
        _ => Reply::Verdicts,
    })
    .await;
    client(&server).await.classify_within(request(), total).await.unwrap();
    let attempts = server.attempts();
    let timeouts: Vec<Duration> = attempts.iter().map(|attempt| attempt.timeout.unwrap()).collect();
    assert!(timeouts[0] <= total && timeouts.len() == 5, "{timeouts:?}");
    for pair in timeouts.windows(2) {
        assert!(pair[1] + 20 * MS <= pair[0], "{timeouts:?}");
    }
}

#[tokio::test]
async fn timeout_beyond_the_clock_range_is_clamped() {
    let server = FakeServer::start(|_| Reply::Verdicts).await;
    client(&server).await.classify_within(request(), Duration::MAX).await.unwrap();
}

#[tokio::test]
async fn broken_connection_is_reopened() {
    let server = FakeServer::start(|_| Reply::Verdicts).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let proxy = tokio::spawn(async move {
        // The first connection breaks as soon as it carries data.
        let (first, _) = listener.accept().await.unwrap();
        first.readable().await.unwrap();
        drop(first);
        let (mut second, _) = listener.accept().await.unwrap();
        let mut upstream = tokio::net::TcpStream::connect(server.address).await.unwrap();
        copy_bidirectional(&mut second, &mut upstream).await
    });
    let client = Client::builder(url).retry(quick()).connect().await.unwrap();
    client.classify(request()).await.unwrap();
    proxy.abort();
}
