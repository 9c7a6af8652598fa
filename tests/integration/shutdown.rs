//! Shutdown: draining, its deadline, and what ends with the server.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt;
use turret::grpc::proto::classifier_client::ClassifierClient;

use crate::support::{
    TestServer,
    faulty_files::{Fault, FaultyFiles},
    heads,
    pictures::{plain, request},
    within_patience,
};

async fn server(
    builder: crate::support::server::Builder,
) -> (TestServer, Arc<crate::support::fake_base::Control>) {
    heads::publish(builder.heads(), &heads::draft("part", 0.0));
    builder.start_fake().await
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_under_load_loses_no_accepted_request() {
    let (mut server, control) = server(TestServer::builder()).await;
    let stopped = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..8u8)
        .map(|number| {
            let (address, stopped) = (format!("http://{}", server.grpc), stopped.clone());
            tokio::spawn(async move {
                let mut client = ClassifierClient::connect(address).await.unwrap();
                let mut answered = 0u64;
                loop {
                    match client.classify(request(&["part"], plain(number))).await {
                        Ok(_) => answered += 1,
                        Err(status) => {
                            assert!(
                                stopped.load(Ordering::SeqCst),
                                "failed before the stop: {status:?}"
                            );
                            // Draining, or the connection is closed.
                            let expected =
                                [Code::Unavailable, Code::Unknown, Code::Cancelled, Code::Internal];
                            assert!(expected.contains(&status.code()), "{status:?}");
                            return answered;
                        }
                    }
                }
            })
        })
        .collect();
    // Lets some answers come first.
    crate::support::eventually("requests are answered", async || control.passes().len() > 50).await;
    stopped.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    within_patience("the server to end", server.stop()).await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(20), "the drain deadline holds");
    let mut answered = 0;
    for client in clients {
        answered += within_patience("a client to end", client).await.unwrap();
    }
    let classified: usize = control.passes().iter().map(Vec::len).sum();
    assert_eq!(answered, classified as u64, "every classified image was answered");
}

#[tokio::test]
async fn stopping_server_refuses_new_requests_and_finishes_accepted_ones() {
    let (mut server, control) = server(TestServer::builder()).await;
    let mut health = HealthClient::new(server.channel().await);
    let mut watching = HealthClient::new(server.channel().await)
        .watch(HealthCheckRequest { service: "turret.v1.Classifier".to_owned() })
        .await
        .unwrap()
        .into_inner();
    // Health follows readiness with a short delay.
    while watching.message().await.unwrap().unwrap().status() != ServingStatus::Serving {}
    for service in ["", "turret.v1.Classifier"] {
        let answer =
            health.check(HealthCheckRequest { service: service.to_owned() }).await.unwrap();
        assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
    }
    assert_eq!(server.get("/readyz").await, (200, "ready\n".to_owned()));

    control.hold();
    let mut client = server.classifier().await;
    let accepted = tokio::spawn({
        let mut client = server.classifier().await;
        async move { client.classify(request(&["part"], plain(5))).await }
    });
    control.is_holding().await;
    let running = server.stop();
    assert_eq!(watching.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_eq!(server.get("/readyz").await, (503, "draining\n".to_owned()));
    assert_eq!(server.get("/livez").await.0, 200, "a draining server is alive");
    let refused = client.classify(request(&["part"], plain(6))).await.unwrap_err();
    assert!(
        [Code::Unavailable, Code::Unknown, Code::Cancelled].contains(&refused.code()),
        "{refused:?}"
    );
    control.release();
    within_patience("the accepted request", accepted).await.unwrap().unwrap();
    within_patience("the server to end", running).await.unwrap().unwrap();
    assert_eq!(control.passes(), [vec![5]]);
}

#[tokio::test]
async fn drain_deadline_ends_a_server_whose_base_hangs() {
    let (mut server, control) =
        server(TestServer::builder().drain(Duration::from_millis(200))).await;
    control.hold();
    let mut client = server.classifier().await;
    let stuck = tokio::spawn(async move { client.classify(request(&["part"], plain(5))).await });
    control.is_holding().await;
    within_patience("the server to end", server.stop()).await.unwrap().unwrap();
    assert!(within_patience("the client", stuck).await.unwrap().is_err());
    control.release();
}

#[tokio::test]
async fn open_watches_do_not_delay_the_end() {
    let (mut server, _control) = server(TestServer::builder()).await;
    let mut heads = turret::grpc::proto::heads_client::HeadsClient::new(server.channel().await);
    let mut events =
        heads.watch_heads(turret::grpc::proto::WatchHeadsRequest {}).await.unwrap().into_inner();
    assert!(events.message().await.unwrap().is_some());
    within_patience("the server to end", server.stop()).await.unwrap().unwrap();
    let ended = within_patience("the watch to end", events.message()).await;
    assert!(matches!(ended, Ok(None) | Err(_)));
}

/// Reads this many answers without an error and returns the status that ends the stream.
async fn end_after(
    count: usize,
    answers: &mut tonic::Streaming<turret::grpc::proto::ClassifyResponse>,
) -> tonic::Status {
    for number in 0..count {
        let answer = within_patience("an answer", answers.message()).await.unwrap().unwrap();
        assert!(answer.verdicts[0].error.is_none(), "answer {number}: {answer:?}");
    }
    within_patience("the end", answers.message()).await.unwrap_err()
}

#[tokio::test]
async fn stream_gets_all_answers_and_then_unavailable_while_draining() {
    const SENT: usize = 32;
    let (mut server, control) = server(TestServer::builder()).await;
    control.hold();
    let (requests, receiver) = tokio::sync::mpsc::channel(SENT);
    let mut client = server.classifier().await;
    let requests_stay_open = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let answers = client.classify_stream(requests_stay_open);
    for _ in 0..SENT {
        requests.send(request(&["part"], plain(5))).await.unwrap();
    }
    let mut answers = answers.await.unwrap().into_inner();
    let in_queue = async || server.metric("turret_queue_images").await == Some(SENT as f64);
    crate::support::eventually("all are in flight", in_queue).await;
    let running = server.stop();
    control.release();
    let end = end_after(SENT, &mut answers).await;
    let reason = end.get_error_details().error_info().map(|info| info.reason.clone());
    assert_eq!((end.code(), reason.as_deref()), (Code::Unavailable, Some("DRAINING")));
    within_patience("the server to end", running).await.unwrap().unwrap();
}

#[tokio::test]
async fn requests_sent_before_the_drain_and_not_read_are_answered() {
    // More than are in flight on a stream at a time: the rest is read while the server drains.
    const SENT: usize = 100;
    let (mut server, control) = server(TestServer::builder()).await;
    control.hold();
    let mut client = server.classifier().await;
    let requests = (0..SENT).map(|_| request(&["part"], plain(5)));
    let requests_stay_open =
        tokio_stream::StreamExt::chain(tokio_stream::iter(requests), tokio_stream::pending());
    let mut answers = client.classify_stream(requests_stay_open).await.unwrap().into_inner();
    let in_queue = async || server.metric("turret_queue_images").await == Some(64.0);
    crate::support::eventually("a stream's worth is in flight", in_queue).await;
    let running = server.stop();
    control.release();
    let end = end_after(SENT, &mut answers).await;
    assert_eq!(end.code(), Code::Unavailable);
    within_patience("the server to end", running).await.unwrap().unwrap();
}

#[tokio::test]
async fn queued_requests_are_answered_while_a_scan_hangs() {
    let files = FaultyFiles::new();
    let builder = TestServer::builder().drain(Duration::from_millis(200)).files(files.clone());
    let (mut server, control) = server(builder).await;
    files.set(Fault::Hang);
    server.rescan();
    files.has_shown(1).await;
    control.hold();
    let ask = |mut client: ClassifierClient<tonic::transport::Channel>| {
        tokio::spawn(async move { client.classify(request(&["part"], plain(5))).await })
    };
    let running = ask(server.classifier().await);
    control.is_holding().await;
    let queued = ask(server.classifier().await);
    let in_queue = async || server.metric("turret_queue_images").await == Some(2.0);
    crate::support::eventually("both are accepted", in_queue).await;
    let ending = server.stop();
    for asked in [running, queued] {
        let status = within_patience("the answer", asked).await.unwrap().unwrap_err();
        let reason = status.get_error_details().error_info().map(|info| info.reason.clone());
        assert_eq!((status.code(), reason.as_deref()), (Code::Unavailable, Some("DRAINING")));
    }
    within_patience("the server to end", ending).await.unwrap().unwrap();
    control.release();
    files.set(Fault::None);
}

#[tokio::test]
async fn scan_of_many_heads_is_interrupted() {
    const TASKS: usize = 300;
    let files = FaultyFiles::new();
    let builder = TestServer::builder().files(files.clone());
    let (mut server, _control) = server(builder).await;
    files.set(Fault::Hang);
    server.rescan();
    files.has_shown(1).await;
    for task in 0..TASKS {
        heads::publish(&server.heads, &heads::draft(&format!("task-{task}"), 1.0));
    }
    within_patience("the server to end", server.stop()).await.unwrap().unwrap();
    files.set(Fault::None);
    let thread_ended = async || Arc::strong_count(&files) == 1;
    crate::support::eventually("the reload thread ends", thread_ended).await;
    let opened = files.opened();
    assert!(opened < TASKS, "{opened} heads were read by a server that stops");
}
