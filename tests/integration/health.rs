//! Health tells whether the server can judge, and returns when the cause has gone.

use std::{sync::Arc, time::Duration};

use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt;
use turret::{
    base::BaseIdentity,
    engine::{Engine, EngineConfig, EngineError, Request},
    grpc::proto::HeadState,
    head::Head,
    image::ImageSource,
    metrics::Metrics,
};

use crate::support::{
    FakeBase, TestServer, eventually,
    fake_base::{Behaviour, Control},
    faulty_files::{EIO, Fault, FaultyFiles},
    heads,
    pictures::{plain, request},
    server::Builder,
    within_patience,
};

/// A server with version 1 of task `part`, which reads heads through these files.
async fn server_of(builder: Builder) -> (TestServer, Arc<Control>, Arc<FaultyFiles>) {
    let files = FaultyFiles::new();
    heads::publish(builder.heads(), &heads::draft("part", 1.0));
    let (server, control) = builder.files(files.clone()).start_fake().await;
    (server, control, files)
}

async fn serving_status(server: &TestServer) -> ServingStatus {
    let request = HealthCheckRequest { service: "turret.v1.Classifier".to_owned() };
    HealthClient::new(server.channel().await).check(request).await.unwrap().into_inner().status()
}

/// Waits until both report this, `/readyz` with a reason that contains `part`.
async fn health_becomes(server: &TestServer, status: ServingStatus, part: &str) {
    let code = if status == ServingStatus::Serving { 200 } else { 503 };
    eventually(&format!("/readyz tells {part:?}"), async || {
        let (found, text) = server.get("/readyz").await;
        found == code && text.contains(part)
    })
    .await;
    eventually(&format!("health is {status:?}"), async || serving_status(server).await == status)
        .await;
}

async fn livez_becomes(server: &TestServer, code: u16) {
    eventually(&format!("/livez is {code}"), async || server.get("/livez").await.0 == code).await;
}

#[tokio::test]
async fn device_that_hangs_is_not_ready_until_it_answers() {
    let builder = TestServer::builder().health(|bounds| {
        bounds.old_pass = Duration::from_millis(20);
        bounds.hung_pass = Duration::from_secs(3600);
    });
    let (server, control, _files) = server_of(builder).await;
    health_becomes(&server, ServingStatus::Serving, "ready").await;
    assert_eq!(server.metric("turret_forward_pass_age_seconds").await, Some(0.0));
    control.hold();
    let mut client = server.classifier().await;
    let held = tokio::spawn(async move { client.classify(request(&["part"], plain(1))).await });
    health_becomes(&server, ServingStatus::NotServing, "a forward pass has run").await;
    assert_eq!(server.get("/livez").await.0, 200, "it may still end");
    assert!(server.metric("turret_forward_pass_age_seconds").await.unwrap() >= 0.02);
    control.release();
    assert!(within_patience("the held request", held).await.unwrap().is_ok());
    health_becomes(&server, ServingStatus::Serving, "ready").await;
}

#[tokio::test]
async fn only_a_pass_that_hangs_for_long_asks_for_a_restart() {
    let builder = TestServer::builder().health(|bounds| {
        bounds.old_pass = Duration::from_millis(1);
        bounds.hung_pass = Duration::from_millis(20);
    });
    let (server, control, _files) = server_of(builder).await;
    control.hold();
    let mut client = server.classifier().await;
    let held = tokio::spawn(async move { client.classify(request(&["part"], plain(1))).await });
    livez_becomes(&server, 503).await;
    assert!(server.get("/livez").await.1.contains("a forward pass hangs"));
    control.release();
    assert!(within_patience("the held request", held).await.unwrap().is_ok());
    livez_becomes(&server, 200).await;
}

#[tokio::test]
async fn lost_device_is_found_again_without_a_request() {
    let (server, control, _files) = server_of(TestServer::builder()).await;
    health_becomes(&server, ServingStatus::Serving, "ready").await;
    control.behave(Behaviour::Fail);
    let mut client = server.classifier().await;
    for _ in 0..3 {
        client.classify(request(&["part"], plain(1))).await.unwrap_err();
    }
    health_becomes(&server, ServingStatus::NotServing, "forward passes fail").await;
    livez_becomes(&server, 503).await;
    control.behave(Behaviour::Well);
    health_becomes(&server, ServingStatus::Serving, "ready").await;
    livez_becomes(&server, 200).await;
}

#[tokio::test]
async fn ended_device_thread_asks_for_a_restart() {
    let (server, control, _files) = server_of(TestServer::builder()).await;
    health_becomes(&server, ServingStatus::Serving, "ready").await;
    control.behave(Behaviour::End);
    let mut client = server.classifier().await;
    client.classify(request(&["part"], plain(1))).await.unwrap_err();
    health_becomes(&server, ServingStatus::NotServing, "the device thread ended").await;
    livez_becomes(&server, 503).await;
    let status = client.classify(request(&["part"], plain(1))).await.unwrap_err();
    let reason = status.get_error_details().error_info().map(|info| info.reason.clone());
    assert_eq!((status.code(), reason.as_deref()), (Code::Unavailable, Some("DEVICE_LOST")));
}

#[tokio::test]
async fn head_becomes_visible_while_the_next_one_is_still_checked() {
    let (server, _control, files) = server_of(TestServer::builder()).await;
    files.set(Fault::Hang);
    server.rescan();
    files.has_shown(1).await;
    // One scan finds both, in the order of their names.
    heads::publish(&server.heads, &heads::draft("fast", 1.0));
    heads::publish(&server.heads, &heads::draft("slow", 1.0));
    files.set(Fault::HangBelow("slow"));
    server.wait_for_serving("fast", 1).await;
    assert!(server.list("slow").await.is_empty());
    files.set(Fault::None);
    server.wait_for_serving("slow", 1).await;
}

#[tokio::test]
async fn reload_thread_that_panics_scans_again() {
    let (server, _control, files) = server_of(TestServer::builder()).await;
    files.set(Fault::Panic);
    server.rescan();
    files.has_shown(1).await;
    files.set(Fault::None);
    heads::publish(&server.heads, &heads::draft("part", 2.0));
    server.wait_for_serving("part", 2).await;
    assert_eq!(server.get("/readyz").await.0, 200);
    assert_eq!(server.get("/livez").await.0, 200);
}

#[tokio::test]
async fn scan_that_hangs_is_not_ready_but_no_restart_helps() {
    let builder = TestServer::builder()
        .rescan(Duration::from_millis(20))
        .health(|bounds| bounds.late_scan = Duration::from_millis(200));
    let (server, _control, files) = server_of(builder).await;
    health_becomes(&server, ServingStatus::Serving, "ready").await;
    files.set(Fault::Hang);
    health_becomes(&server, ServingStatus::NotServing, "scan of the heads").await;
    assert_eq!(server.get("/livez").await.0, 200, "the mount would hang again");
    assert!(server.metric("turret_last_scan_age_seconds").await.unwrap() >= 0.2);
    files.set(Fault::None);
    health_becomes(&server, ServingStatus::Serving, "ready").await;
}

#[tokio::test]
async fn unreadable_head_serves_as_soon_as_it_can_be_read() {
    let (server, _control, files) = server_of(TestServer::builder()).await;
    files.set(Fault::Open(EIO));
    heads::publish(&server.heads, &heads::draft("part", 2.0));
    let rejected = server.wait_for("part", 2, HeadState::Rejected).await;
    assert!(rejected.reason.contains("cannot read head file"), "{}", rejected.reason);
    assert!(rejected.reason.contains("tried again"), "{}", rejected.reason);
    files.has_shown(3).await;
    let refused = "turret_head_reloads_total{result=\"refused\"}";
    assert_eq!(server.metric(refused).await, Some(1.0), "the same reason counts once");
    // The file does not change, and no interval passes.
    files.set(Fault::None);
    server.wait_for_serving("part", 2).await;
    assert_eq!(server.list("part").await.len(), 1, "it is no longer listed as rejected");
}

#[tokio::test]
async fn file_that_cannot_be_looked_at_withdraws_no_task() {
    let builder = TestServer::builder().rescan(Duration::from_millis(20));
    let (server, _control, files) = server_of(builder).await;
    files.set(Fault::Fingerprint(EIO));
    server.wait_for("part", 0, HeadState::Rejected).await;
    let mut client = server.classifier().await;
    assert!(client.classify(request(&["part"], plain(1))).await.is_ok());
    files.set(Fault::None);
    eventually("the folder is no longer listed", async || server.list("part").await.len() == 1)
        .await;
}

#[tokio::test]
async fn lost_folder_of_many_tasks_is_listed_once() {
    const TASKS: usize = 20;
    let builder = TestServer::builder().rescan(Duration::from_millis(20));
    for task in 0..TASKS {
        heads::publish(builder.heads(), &heads::draft(&format!("task-{task}"), 1.0));
    }
    let (server, _control) = builder.start_fake().await;
    let aside = server.folder().join("aside");
    let scan_failed = "turret_head_reloads_total{result=\"scan_failed\"}";
    fs_err::rename(&server.heads, &aside).unwrap();
    server.wait_for("", 0, HeadState::Rejected).await;
    assert_eq!(server.list("").await.len(), TASKS + 1);
    // An unmounted volume leaves an empty folder.
    fs_err::create_dir(&server.heads).unwrap();
    eventually("the folders are gone", async || {
        server.list("").await.iter().any(|head| head.reason.contains("all 20 tasks are gone"))
    })
    .await;
    assert_eq!(server.list("").await.len(), TASKS + 1);
    assert_eq!(server.metric(scan_failed).await, Some(2.0));
    fs_err::remove_dir(&server.heads).unwrap();
    fs_err::rename(&aside, &server.heads).unwrap();
    eventually("nothing is rejected", async || server.list("").await.len() == TASKS).await;
}

#[tokio::test]
async fn head_whose_judging_panics_does_not_end_the_device() {
    let (base, _control) = FakeBase::new();
    let metrics = Arc::new(Metrics::new().unwrap());
    let engine = Engine::start(Box::new(base), &EngineConfig::default(), metrics).unwrap();
    let head = || -> (Head, BaseIdentity) {
        let content = heads::content(&heads::draft("part", 1.0), 1);
        Head::from_bytes(&content.to_bytes().unwrap()).unwrap()
    };
    let classify = async |head: Head| {
        let reservation = engine.try_reserve(vec![Arc::new(head)], 1, None).unwrap();
        let source = ImageSource::Encoded(plain(1).into());
        reservation.classify(Request { source, roi: None, want_features: false }).await
    };
    let (mut broken, _) = head();
    broken.decision.thresholds = Box::default();
    let failed = within_patience("the answer", classify(broken)).await.unwrap_err();
    assert!(matches!(failed, EngineError::Failed { .. }), "{failed:?}");
    assert!(within_patience("the next answer", classify(head().0)).await.is_ok());
    engine.shut_down();
}
