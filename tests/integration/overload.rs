//! Overload, late requests and cancelled ones: refused early, and nothing leaks.

use std::{sync::Arc, time::Duration};

use prost::Message as _;
use tonic::{Code, Request};
use tonic_types::StatusExt;
use turret::{engine::BatchSizes, grpc::proto};

use crate::support::{
    FakeBase, TestServer, eventually,
    fake_base::{Behaviour, Control},
    heads,
    pictures::{plain, request},
    server::Builder,
    within_patience,
};

type Answer = Result<tonic::Response<proto::ClassifyResponse>, tonic::Status>;

struct Busy {
    server: TestServer,
    control: Arc<Control>,
    /// The request in the held forward pass.
    first: tokio::task::JoinHandle<Answer>,
}

/// Starts a server with room for `images`, one of which is in a held forward pass.
async fn busy_server(images: usize) -> Busy {
    busy(TestServer::builder().engine(|engine| engine.max_queue_images = images)).await
}

/// Starts a server with one image of task `part` in a held forward pass.
async fn busy(builder: Builder) -> Busy {
    heads::publish(builder.heads(), &heads::draft("part", 0.0));
    let (server, control) = builder.start_fake().await;
    control.hold();
    let first = ask(&server, plain(1), None);
    control.is_holding().await;
    Busy { server, control, first }
}

fn ask(
    server: &TestServer,
    bytes: Vec<u8>,
    timeout: Option<Duration>,
) -> tokio::task::JoinHandle<Answer> {
    ask_task(server, "part", bytes, timeout)
}

fn ask_task(
    server: &TestServer,
    task: &str,
    bytes: Vec<u8>,
    timeout: Option<Duration>,
) -> tokio::task::JoinHandle<Answer> {
    let mut client = server.plain_classifier();
    let mut request = Request::new(request(&[task], bytes));
    if let Some(timeout) = timeout {
        request.set_timeout(timeout);
    }
    tokio::spawn(async move { client.classify(request).await })
}

async fn images_in_queue(server: &TestServer) -> f64 {
    server.metric("turret_queue_images").await.unwrap()
}

async fn images_decoded(server: &TestServer) -> f64 {
    server.metric("turret_stage_duration_seconds_count{stage=\"decode\"}").await.unwrap()
}

fn reason(status: &tonic::Status) -> Option<String> {
    status.get_error_details().error_info().map(|info| info.reason.clone())
}

#[tokio::test]
async fn full_queue_refuses_before_decoding_with_retry_info() {
    let Busy { server, control, first } = busy_server(2).await;
    let second = ask(&server, plain(2), None);
    eventually("two images are in the queue", async || images_in_queue(&server).await == 2.0).await;
    // It would be INVALID_ARGUMENT if it were decoded.
    let status = ask(&server, b"no picture".to_vec(), None).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("2 of 2 images are in use"), "{}", status.message());
    assert!(
        status.get_error_details().retry_info().is_some_and(|retry| retry.retry_delay.is_some())
    );
    assert_eq!(server.metric("turret_rejected_total{reason=\"queue_full\"}").await, Some(1.0));
    assert_eq!(server.get("/readyz").await.0, 200, "load does not make a server unready");
    assert_eq!(server.get("/livez").await.0, 200);
    control.release();
    for accepted in [first, second] {
        assert!(within_patience("an accepted request", accepted).await.unwrap().is_ok());
    }
    assert_eq!(images_in_queue(&server).await, 0.0);
}

#[tokio::test]
async fn queue_bytes_are_bounded_too() {
    let builder = TestServer::builder().engine(|engine| engine.max_queue_bytes = 1000);
    heads::publish(builder.heads(), &heads::draft("part", 0.0));
    let (server, control) = builder.start_fake().await;
    control.hold();
    let held = ask(&server, plain(1), None);
    control.is_holding().await;
    let status = ask(&server, vec![0; 970], None).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    let status = ask(&server, vec![0; 1001], None).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "it would never fit: retrying is no use");
    let whole = request(&["part"], vec![0; 1001]).encoded_len().to_string();
    assert!(
        status.message().contains(&whole) && status.message().contains("1000"),
        "{}",
        status.message()
    );
    control.release();
    assert!(held.await.unwrap().is_ok());
}

#[tokio::test]
async fn expired_request_is_answered_and_never_reaches_the_base() {
    let Busy { server, control, first } = busy_server(8).await;
    let late = ask(&server, plain(66), Some(Duration::from_millis(60)));
    let patient = ask(&server, plain(77), None);
    let status = within_patience("the late answer", late).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    eventually("its reservation is released", async || images_in_queue(&server).await == 2.0).await;
    control.release();
    assert!(first.await.unwrap().is_ok());
    assert!(patient.await.unwrap().is_ok());
    assert_eq!(control.passes(), [vec![1], vec![77]]);
    assert_eq!(server.metric("turret_rejected_total{reason=\"deadline\"}").await, Some(1.0));
}

#[tokio::test]
async fn cancelled_request_releases_its_reservation_while_base_is_busy() {
    let Busy { server, control, first } = busy_server(2).await;
    let cancelled = ask(&server, plain(66), None);
    eventually("two images are in the queue", async || images_in_queue(&server).await == 2.0).await;
    cancelled.abort();
    eventually("the reservation is released", async || images_in_queue(&server).await == 1.0).await;
    let next = ask(&server, plain(77), None);
    eventually("the next is accepted", async || images_in_queue(&server).await == 2.0).await;
    control.release();
    assert!(first.await.unwrap().is_ok());
    assert!(next.await.unwrap().is_ok());
    assert_eq!(control.passes(), [vec![1], vec![77]], "the cancelled image never reached the base");
    let cancelled = "turret_requests_total{code=\"CANCELLED\",rpc=\"Classify\",task=\"part\"}";
    assert_eq!(server.metric(cancelled).await, Some(1.0));
}

#[tokio::test]
async fn waiting_images_share_batches_of_warmed_up_sizes() {
    // With a delay the largest batch is formed, however long the fake base's passes take.
    let builder = TestServer::builder().engine(|engine| {
        engine.batch_sizes = BatchSizes::up_to(16);
        engine.max_delay = Duration::from_millis(1);
    });
    let Busy { server, control, first } = busy(builder).await;
    let mut waiting = Vec::new();
    for red in 10..20 {
        waiting.push(ask(&server, plain(red), None));
    }
    eventually("all are decoded", async || images_decoded(&server).await == 11.0).await;
    control.release();
    assert!(first.await.unwrap().is_ok());
    for request in waiting {
        let response = request.await.unwrap().unwrap().into_inner();
        assert!([8, 2].contains(&response.times.unwrap().batch_size));
    }
    let sizes: Vec<usize> = control.passes().iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 8, 2], "every pass has a size that was warmed up");
}

#[tokio::test]
async fn quiet_task_joins_the_next_batch_beside_a_loud_one() {
    let builder = TestServer::builder();
    heads::publish(builder.heads(), &heads::draft("quiet", 0.0));
    let Busy { server, control, first } = busy(builder).await;
    let loud: Vec<_> = (0..100).map(|_| ask(&server, plain(10), None)).collect();
    eventually("the loud task's images wait", async || images_decoded(&server).await == 101.0)
        .await;
    let quiet = ask_task(&server, "quiet", plain(200), None);
    eventually("the quiet task's image waits", async || images_decoded(&server).await == 102.0)
        .await;
    control.release();
    for accepted in loud.into_iter().chain([first, quiet]) {
        assert!(within_patience("an accepted request", accepted).await.unwrap().is_ok());
    }
    let passes = control.passes();
    assert!(passes[1].contains(&200), "{passes:?}");
    assert_eq!(passes.concat().len(), 102);
}

#[tokio::test]
async fn quiet_task_is_admitted_when_loud_one_fills_its_share() {
    let builder = TestServer::builder().engine(|engine| engine.max_queue_images = 9);
    heads::publish(builder.heads(), &heads::draft("quiet", 0.0));
    let Busy { server, control, first } = busy(builder).await;
    let loud: Vec<_> = (0..7).map(|_| ask(&server, plain(10), None)).collect();
    eventually("the loud task has its share", async || images_in_queue(&server).await == 8.0).await;
    let status = ask(&server, plain(10), None).await.unwrap().unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_deref()),
        (Code::ResourceExhausted, Some("QUEUE_FULL"))
    );
    for part in ["task part", "holds 8 images", "1 of 9"] {
        assert!(status.message().contains(part), "{part:?} is not in: {}", status.message());
    }
    assert_eq!(server.metric("turret_rejected_total{reason=\"queue_full\"}").await, Some(1.0));
    let quiet = ask_task(&server, "quiet", plain(200), None);
    eventually("the quiet task is admitted", async || images_in_queue(&server).await == 9.0).await;
    control.release();
    for accepted in loud.into_iter().chain([first, quiet]) {
        assert!(within_patience("an accepted request", accepted).await.unwrap().is_ok());
    }
}

#[tokio::test]
async fn request_certain_to_miss_its_deadline_is_refused_on_arrival() {
    let builder = TestServer::builder().engine(|engine| engine.batch_sizes = BatchSizes::up_to(1));
    heads::publish(builder.heads(), &heads::draft("part", 0.0));
    let (base, control) = FakeBase::new();
    let (server, control) =
        builder.start_with(base.with_passes_of(Duration::from_millis(300)), control).await;
    // It would be INVALID_ARGUMENT if it were decoded.
    let no_picture = b"no picture".to_vec();
    let status =
        ask(&server, no_picture, Some(Duration::from_millis(200))).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(reason(&status).as_deref(), Some("DEADLINE_TOO_NEAR"), "{status:?}");
    assert!(status.message().contains("certain to be missed"), "{}", status.message());
    assert_eq!(server.metric("turret_rejected_total{reason=\"deadline\"}").await, Some(1.0));
    let patient = ask(&server, plain(77), Some(crate::support::PATIENCE));
    assert!(within_patience("a request with more time", patient).await.unwrap().is_ok());
    assert_eq!(control.passes(), [vec![77]]);
}

/// Allows two batches of one image in flight, and holds the first with nothing behind it.
async fn busy_with_two_in_flight() -> Busy {
    let builder = TestServer::builder().engine(|engine| engine.batch_sizes = BatchSizes::up_to(1));
    heads::publish(builder.heads(), &heads::draft("part", 0.0));
    let (base, control) = FakeBase::new();
    let (server, control) = builder.start_with(base.with_in_flight(2), control).await;
    control.hold();
    let first = ask(&server, plain(1), None);
    control.is_holding().await;
    Busy { server, control, first }
}

#[tokio::test]
async fn two_batches_run_in_flight_and_a_third_waits() {
    let Busy { server, control, first } = busy_with_two_in_flight().await;
    let others: Vec<_> = (2..=4).map(|red| ask(&server, plain(red), None)).collect();
    eventually("all are decoded", async || images_decoded(&server).await == 4.0).await;
    assert_eq!(
        control.passes(),
        [vec![1]],
        "no image was ready when the wait for the device began"
    );
    control.release_one();
    assert!(within_patience("the first", first).await.unwrap().is_ok());
    eventually("two are in flight", async || control.passes().len() == 3).await;
    control.is_holding().await;
    assert_eq!(control.passes().len(), 3, "the fourth waits for one of them");
    control.release();
    for other in others {
        assert!(within_patience("another", other).await.unwrap().is_ok());
    }
    assert_eq!(control.passes().len(), 4);
}

#[tokio::test]
async fn batches_in_flight_fail_independently() {
    let Busy { server, control, first } = busy_with_two_in_flight().await;
    let others: Vec<_> = (2..=3).map(|red| ask(&server, plain(red), None)).collect();
    eventually("all are decoded", async || images_decoded(&server).await == 3.0).await;
    control.release_one();
    assert!(within_patience("the first", first).await.unwrap().is_ok());
    eventually("two are in flight", async || control.passes().len() == 3).await;
    control.is_holding().await;
    control.behave(Behaviour::Panic);
    control.release_one();
    let one_is_answered = async || others.iter().any(tokio::task::JoinHandle::is_finished);
    eventually("the one that panicked is answered", one_is_answered).await;
    control.behave(Behaviour::Well);
    control.release();
    let mut answers = Vec::new();
    for other in others {
        answers.push(
            within_patience("another", other).await.unwrap().map_err(|status| status.code()).err(),
        );
    }
    answers.sort_by_key(Option::is_some);
    assert_eq!(answers, [None, Some(Code::Internal)], "one pass panicked, the other went on");
    let later = ask(&server, plain(5), None);
    assert!(
        within_patience("a later one", later).await.unwrap().is_ok(),
        "both streams are free again"
    );
}

#[tokio::test]
async fn abandoned_stream_releases_every_reservation() {
    let Busy { server, control, first } = busy_server(64).await;
    let mut client = server.plain_classifier();
    let (requests, receiver) = tokio::sync::mpsc::channel(16);
    for red in 0..10 {
        requests.send(request(&["part"], plain(red))).await.unwrap();
    }
    let requests_end_later = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let answers = client.classify_stream(requests_end_later).await.unwrap();
    eventually("the stream's images are in the queue", async || {
        images_in_queue(&server).await == 11.0
    })
    .await;
    drop((answers, requests, client));
    eventually("their reservations are released", async || images_in_queue(&server).await == 1.0)
        .await;
    control.release();
    assert!(first.await.unwrap().is_ok());
    assert_eq!(control.passes().len(), 1);
}
