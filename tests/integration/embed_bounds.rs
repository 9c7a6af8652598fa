//! `Embed` under bounds: its places, its callers that leave, and how long anything waits.

use std::{sync::Arc, time::Duration};

use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};
use tonic_types::StatusExt;
use turret::{engine::MOST_EMBEDDING, grpc::proto};

use crate::support::{
    TestServer, eventually,
    fake_base::Control,
    heads,
    pictures::{plain, request},
    server::Builder,
    within_patience,
};

/// A server whose device is held by one request, which is in its queue.
struct Held {
    server: TestServer,
    control: Arc<Control>,
    first: JoinHandle<Result<tonic::Response<proto::ClassifyResponse>, tonic::Status>>,
}

async fn held(builder: Builder) -> Held {
    heads::publish(builder.heads(), &heads::draft("part", 0.0));
    let (server, control) = builder.start_fake().await;
    control.hold();
    let mut client = server.plain_classifier();
    // More than any `max_wait` of these tests.
    let mut asked = tonic::Request::new(request(&["part"], plain(1)));
    asked.set_timeout(Duration::from_secs(3_600));
    let first = tokio::spawn(async move { client.classify(asked).await });
    control.is_holding().await;
    Held { server, control, first }
}

/// A stream of `Embed` that stays open.
struct Embeds {
    requests: mpsc::Sender<proto::EmbedRequest>,
    answers: Streaming<proto::EmbedResponse>,
}

async fn embeds(server: &TestServer, count: usize, timeout_ms: u32) -> Embeds {
    let (requests, receiver) = mpsc::channel(count);
    for red in 0..count {
        requests
            .send(proto::EmbedRequest {
                image: request(&[], plain(100 + red as u8)).image,
                timeout_ms,
                ..Default::default()
            })
            .await
            .unwrap();
    }
    let mut client = server.plain_classifier();
    let answers = client.embed(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    Embeds { requests, answers }
}

async fn in_queue(server: &TestServer) -> f64 {
    server.metric("turret_queue_images").await.unwrap()
}

async fn next_reason(embeds: &mut Embeds) -> String {
    let answer = within_patience("an answer", embeds.answers.message()).await.unwrap().unwrap();
    answer.error.unwrap().reason
}

#[tokio::test]
async fn embeds_of_all_streams_hold_few_places() {
    let Held { server, control, first } = held(TestServer::builder()).await;
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(embeds(&server, 12, 0).await);
    }
    let most = 1.0 + MOST_EMBEDDING as f64;
    eventually("all places are taken", async || in_queue(&server).await == most).await;
    control.release();
    for stream in &mut streams {
        for _ in 0..12 {
            let answer = within_patience("features", stream.answers.message()).await;
            assert_eq!(answer.unwrap().unwrap().error, None);
            assert!(in_queue(&server).await <= most);
        }
    }
    assert!(first.await.unwrap().is_ok());
    assert_eq!(control.passes().len(), 1 + 4 * 12);
}

#[tokio::test]
async fn embeds_whose_caller_left_are_not_computed() {
    let Held { server, control, first } = held(TestServer::builder()).await;
    for _ in 0..5 {
        let left = embeds(&server, 2 * MOST_EMBEDDING, 0).await;
        eventually("they have places", async || in_queue(&server).await == 17.0).await;
        drop(left);
        eventually("their places are free", async || in_queue(&server).await == 1.0).await;
    }
    control.release();
    assert!(first.await.unwrap().is_ok());
    let stays = embeds(&server, 1, 0).await.answers.message().await.unwrap().unwrap();
    assert_eq!(stays.error, None);
    assert_eq!(control.passes().len(), 2, "only the first and the one that stayed");
}

#[tokio::test]
async fn embed_past_its_own_timeout_is_not_computed() {
    let Held { server, control, first } = held(TestServer::builder()).await;
    let mut stream = embeds(&server, 1, 50).await;
    assert_eq!(next_reason(&mut stream).await, "DEADLINE_PASSED");
    eventually("its place is free", async || in_queue(&server).await == 1.0).await;
    control.release();
    assert!(first.await.unwrap().is_ok());
    assert_eq!(control.passes(), [vec![1]]);
}

#[tokio::test]
async fn embed_without_a_place_is_refused_after_max_wait() {
    let short = |builder: Builder| {
        builder.engine(|engine| {
            engine.max_wait = Duration::from_millis(100);
            engine.max_queue_images = 1;
        })
    };
    let Held { server, control, first } = held(short(TestServer::builder())).await;
    let mut stream = embeds(&server, 1, 0).await;
    assert_eq!(next_reason(&mut stream).await, "QUEUE_FULL");
    control.release();
    assert!(first.await.unwrap().is_ok());
    stream.requests.send(proto::EmbedRequest::default()).await.unwrap();
    assert_eq!(next_reason(&mut stream).await, "IMAGE_MISSING", "the stream goes on");
}

#[tokio::test]
async fn request_without_a_deadline_waits_no_longer_than_max_wait() {
    let short = TestServer::builder().engine(|engine| engine.max_wait = Duration::from_millis(100));
    let Held { server, control, first } = held(short).await;
    let mut client = server.plain_classifier();
    let asked = client.classify(request(&["part"], plain(7)));
    let status = within_patience("the refusal", asked).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let reason = status.get_error_details().error_info().map(|info| info.reason.clone());
    assert_eq!(reason.as_deref(), Some("DEADLINE_PASSED"));
    control.release();
    assert!(first.await.unwrap().is_ok());
    assert_eq!(control.passes(), [vec![1]]);
}

#[tokio::test]
async fn request_on_a_stream_has_a_timeout_of_its_own() {
    let Held { server, control, first } = held(TestServer::builder()).await;
    let with = |red: u8, timeout_ms| proto::ClassifyRequest {
        timeout_ms,
        request_id: red.to_string(),
        ..request(&["part"], plain(red))
    };
    let requests = tokio_stream::iter([with(7, 50), with(8, 0)]);
    let mut client = server.classifier().await;
    let mut answers = client.classify_stream(requests).await.unwrap().into_inner();
    let late = within_patience("the late one", answers.message()).await.unwrap().unwrap();
    assert_eq!(late.request_id, "7");
    assert_eq!(late.verdicts[0].error.as_ref().unwrap().reason, "DEADLINE_PASSED");
    control.release();
    let judged = within_patience("the other", answers.message()).await.unwrap().unwrap();
    assert_eq!((judged.request_id.as_str(), &judged.verdicts[0].error), ("8", &None));
    assert!(first.await.unwrap().is_ok());
}
