//! Metrics, health and reflection.

use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::support::{
    FakeBase, TestServer, eventually, heads,
    pictures::{plain, request},
};

#[tokio::test]
async fn requests_verdicts_heads_and_stages_are_counted() {
    let builder = TestServer::builder();
    let published = heads::publish(builder.heads(), &heads::draft("part", 0.0));
    let (server, _control) = builder.start_fake().await;
    let mut client = server.classifier().await;
    for red in [250, 251, 3] {
        client.classify(request(&["part"], plain(red))).await.unwrap();
    }
    client.classify(request(&["no-such-task"], plain(1))).await.unwrap_err();
    client.classify(request(&["part"], b"text".to_vec())).await.unwrap_err();
    let digest = published.digest;
    let expected = [
        ("turret_requests_total{code=\"OK\",rpc=\"Classify\",task=\"part\"}", 3.0),
        ("turret_requests_total{code=\"INVALID_ARGUMENT\",rpc=\"Classify\",task=\"part\"}", 1.0),
        ("turret_requests_total{code=\"NOT_FOUND\",rpc=\"Classify\",task=\"\"}", 1.0),
        ("turret_verdicts_total{decision=\"PASS\",label=\"bright\",task=\"part\"}", 2.0),
        ("turret_verdicts_total{decision=\"REJECT\",label=\"dark\",task=\"part\"}", 1.0),
        (&format!("turret_head_info{{digest=\"{digest}\",task=\"part\",version=\"1\"}}"), 1.0),
        ("turret_head_reloads_total{result=\"installed\"}", 1.0),
        ("turret_head_install_duration_seconds_count", 1.0),
        ("turret_heads_serving", 1.0),
        ("turret_batch_images_count", 3.0),
        ("turret_batch_tasks_sum", 3.0),
        ("turret_stage_duration_seconds_count{stage=\"forward\"}", 3.0),
        ("turret_stage_duration_seconds_count{stage=\"head\"}", 3.0),
        ("turret_request_duration_seconds_count{rpc=\"Classify\"}", 5.0),
        ("turret_queue_images", 0.0),
        ("turret_queue_bytes", 0.0),
    ];
    for (series, value) in expected {
        assert_eq!(server.metric(series).await, Some(value), "{series}");
    }
    let (_, text) = server.get("/metrics").await;
    assert!(!text.contains("no-such-task"), "a label never comes from a request");
    assert!(!text.contains("quantile="));
}

#[tokio::test]
async fn counters_outlive_a_withdrawn_head() {
    let builder = TestServer::builder();
    heads::publish(builder.heads(), &heads::draft("part", 0.0));
    let (server, _control) = builder.start_fake().await;
    let mut client = server.classifier().await;
    let mut classify = async || client.classify(request(&["part"], plain(250))).await.unwrap();
    let verdicts = async || {
        server
            .metric("turret_verdicts_total{decision=\"PASS\",label=\"bright\",task=\"part\"}")
            .await
    };
    let is_shown = async || server.get("/metrics").await.1.contains("turret_head_info{");
    classify().await;
    assert!(is_shown().await);
    fs_err::remove_file(heads::path_of(&server.heads, "part", 1)).unwrap();
    eventually("the head is no longer shown", async || !is_shown().await).await;
    assert_eq!(server.metric("turret_heads_serving").await, Some(0.0));
    assert_eq!(verdicts().await, Some(1.0));
    let published = heads::publish(&server.heads, &heads::draft("part", 0.0));
    server.wait_for_serving("part", published.version).await;
    classify().await;
    assert_eq!(verdicts().await, Some(2.0));
}

#[tokio::test]
async fn head_has_no_counters_before_its_first_request() {
    let builder = TestServer::builder();
    for task in ["asked", "idle"] {
        heads::publish(builder.heads(), &heads::draft(task, 0.0));
    }
    let (server, _control) = builder.start_fake().await;
    server.classifier().await.classify(request(&["asked"], plain(250))).await.unwrap();
    let (_, text) = server.get("/metrics").await;
    assert_eq!(text.matches("task=\"idle\"").count(), 1, "nothing but turret_head_info");
    assert_eq!(text.matches("task=\"asked\"").count(), 3);
}

#[tokio::test]
async fn server_is_ready_once_the_first_scan_is_installed() {
    let builder = TestServer::builder().rescan(std::time::Duration::from_millis(20));
    let root = builder.heads().to_owned();
    let aside = root.with_file_name("aside");
    heads::publish(&root, &heads::draft("part", 0.0));
    fs_err::rename(&root, &aside).unwrap();
    let (base, _control) = FakeBase::new();
    let starting = tokio::spawn(builder.base(base).start());
    tokio::task::yield_now().await;
    assert!(!starting.is_finished(), "there is no folder to scan yet");
    fs_err::rename(&aside, &root).unwrap();
    let server = starting.await.unwrap();
    assert_eq!(server.get("/readyz").await.0, 200);
    assert_eq!(server.list("").await.len(), 1, "ready means installed");
    let mut health = HealthClient::new(server.channel().await);
    eventually("health is SERVING too", async || {
        let request = HealthCheckRequest { service: "turret.v1.Classifier".to_owned() };
        health.clone().check(request).await.unwrap().into_inner().status() == ServingStatus::Serving
    })
    .await;
    let unknown =
        health.check(HealthCheckRequest { service: "other".to_owned() }).await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);
}

#[tokio::test]
async fn both_reflection_versions_list_the_services() {
    use tonic_reflection::pb::{v1, v1alpha};
    let builder = TestServer::builder();
    let (server, _control) = builder.start_fake().await;
    let expected = ["grpc.health.v1.Health", "turret.v1.Classifier", "turret.v1.Heads"];

    let request = v1::ServerReflectionRequest {
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
        ..Default::default()
    };
    let mut client =
        v1::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let answers = client.server_reflection_info(tokio_stream::iter([request])).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap().message_response.unwrap();
    let v1::server_reflection_response::MessageResponse::ListServicesResponse(listed) = answer
    else {
        panic!("{answer:?}")
    };
    let names: Vec<_> = listed.service.iter().map(|service| service.name.as_str()).collect();
    assert!(expected.iter().all(|name| names.contains(name)), "{names:?}");

    let request = v1alpha::ServerReflectionRequest {
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
        ..Default::default()
    };
    let mut client =
        v1alpha::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let answers = client.server_reflection_info(tokio_stream::iter([request])).await.unwrap();
    assert!(answers.into_inner().message().await.unwrap().unwrap().message_response.is_some());
}
