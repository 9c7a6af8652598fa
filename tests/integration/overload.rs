//! Too much, too late, or no longer wanted: refused early, and nothing is lost.

use std::{sync::Arc, time::Duration};

use tonic::{Code, Request};
use tonic_types::StatusExt;
use turret::grpc::proto;

use crate::support::{
    TestServer, eventually,
    fake_base::Control,
    heads,
    pictures::{plain, request},
    within_patience,
};

type Answer = Result<tonic::Response<proto::ClassifyResponse>, tonic::Status>;

struct Busy {
    server: TestServer,
    control: Arc<Control>,
    /// In the forward pass that is held.
    first: tokio::task::JoinHandle<Answer>,
}

/// A server with room for `images`, one of which is in a forward pass that is held.
async fn busy_server(images: usize) -> Busy {
    let builder = TestServer::builder().engine(|engine| engine.max_queue_images = images);
    heads::publish(builder.heads(), &heads::draft("part", 0.0));
    let (server, control) = builder.start_fake().await;
    control.hold();
    let first = ask(&server, plain(1), None);
    control.is_holding().await;
    Busy { server, control, first }
}

fn ask(server: &TestServer, bytes: Vec<u8>, timeout: Option<Duration>) -> tokio::task::JoinHandle<Answer> {
    let mut client = server.plain_classifier();
    let mut request = Request::new(request(&["part"], bytes));
    if let Some(timeout) = timeout {
        request.set_timeout(timeout);
    }
    tokio::spawn(async move { client.classify(request).await })
}

async fn images_in_queue(server: &TestServer) -> f64 {
    server.metric("turret_queue_images").await.unwrap()
}

#[tokio::test]
async fn a_full_queue_refuses_before_decoding_and_says_when_to_retry() {
    let Busy { server, control, first } = busy_server(2).await;
    let second = ask(&server, plain(2), None);
    eventually("two images are in the queue", async || images_in_queue(&server).await == 2.0).await;
    // Would be INVALID_ARGUMENT if anybody looked at it.
    let status = ask(&server, b"no picture".to_vec(), None).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("2 of 2 images are waiting"), "{}", status.message());
    assert!(status.get_error_details().retry_info().is_some_and(|retry| retry.retry_delay.is_some()));
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
async fn bytes_are_bounded_too() {
    let builder = TestServer::builder().engine(|engine| engine.max_queue_bytes = 1000);
    heads::publish(builder.heads(), &heads::draft("part", 0.0));
    let (server, control) = builder.start_fake().await;
    control.hold();
    let held = ask(&server, plain(1), None);
    control.is_holding().await;
    let status = ask(&server, vec![0; 990], None).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    let status = ask(&server, vec![0; 1001], None).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "it would never fit: retrying is no use");
    assert!(status.message().contains("1001") && status.message().contains("1000"), "{}", status.message());
    control.release();
    assert!(held.await.unwrap().is_ok());
}

#[tokio::test]
async fn an_expired_request_is_told_so_and_never_reaches_the_base() {
    let Busy { server, control, first } = busy_server(8).await;
    let late = ask(&server, plain(66), Some(Duration::from_millis(60)));
    let patient = ask(&server, plain(77), None);
    let status = within_patience("the late answer", late).await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    eventually("its place is free", async || images_in_queue(&server).await == 2.0).await;
    control.release();
    assert!(first.await.unwrap().is_ok());
    assert!(patient.await.unwrap().is_ok());
    assert_eq!(control.passes(), [vec![1], vec![77]]);
    assert_eq!(server.metric("turret_rejected_total{reason=\"deadline\"}").await, Some(1.0));
}

#[tokio::test]
async fn a_cancelled_request_frees_its_place_while_the_base_is_busy() {
    let Busy { server, control, first } = busy_server(2).await;
    let cancelled = ask(&server, plain(66), None);
    eventually("two images are in the queue", async || images_in_queue(&server).await == 2.0).await;
    cancelled.abort();
    eventually("the place is free", async || images_in_queue(&server).await == 1.0).await;
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
async fn what_waits_is_served_together() {
    let Busy { server, control, first } = busy_server(64).await;
    let mut waiting = Vec::new();
    for red in 10..20 {
        waiting.push(ask(&server, plain(red), None));
    }
    eventually("all are in the queue", async || images_in_queue(&server).await == 11.0).await;
    let prepared = "turret_stage_duration_seconds_count{stage=\"decode\"}";
    eventually("all are decoded", async || server.metric(prepared).await == Some(11.0)).await;
    control.release();
    assert!(first.await.unwrap().is_ok());
    for request in waiting {
        let response = request.await.unwrap().unwrap().into_inner();
        assert_eq!(response.times.unwrap().batch_size, 10);
    }
    assert_eq!(control.passes().len(), 2);
}

#[tokio::test]
async fn a_stream_whose_client_goes_away_frees_every_place() {
    let Busy { server, control, first } = busy_server(64).await;
    let mut client = server.plain_classifier();
    let (requests, receiver) = tokio::sync::mpsc::channel(16);
    for red in 0..10 {
        requests.send(request(&["part"], plain(red))).await.unwrap();
    }
    let requests_end_later = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let answers = client.classify_stream(requests_end_later).await.unwrap();
    eventually("the stream's images are in the queue", async || images_in_queue(&server).await == 11.0).await;
    drop((answers, requests, client));
    eventually("their places are free", async || images_in_queue(&server).await == 1.0).await;
    control.release();
    assert!(first.await.unwrap().is_ok());
    assert_eq!(control.passes().len(), 1);
}
