//! `Classify` and `ClassifyStream`: requests and their answers.

use tokio_stream::StreamExt;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use turret::{
    grpc::proto::{self, Decision, Extra, Reason, heads_client::HeadsClient},
    image::{Preprocess, Resize},
};

use crate::support::{
    TestServer,
    fake_base::Behaviour,
    heads,
    pictures::{plain, request},
    within_patience,
};

async fn server_of(
    tasks: &[&str],
) -> (TestServer, std::sync::Arc<crate::support::fake_base::Control>) {
    let builder = TestServer::builder();
    for (number, task) in tasks.iter().enumerate() {
        heads::publish(builder.heads(), &heads::draft(task, number as f32));
    }
    builder.start_fake().await
}

async fn ask(
    server: &TestServer,
    request: proto::ClassifyRequest,
) -> Result<proto::ClassifyResponse, Status> {
    server.classifier().await.classify(request).await.map(tonic::Response::into_inner)
}

async fn refusal(server: &TestServer, request: proto::ClassifyRequest) -> (Code, String, String) {
    let status = ask(server, request).await.expect_err("the request is wrong");
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.clone()).unwrap_or_default();
    (status.code(), reason, status.message().to_owned())
}

#[tokio::test]
async fn verdict_carries_decision_scores_version_digest_and_times() {
    let (server, _control) = server_of(&["part"]).await;
    let published = heads::publish(&server.heads, &heads::draft("part", 3.0));
    server.wait_for_serving("part", 2).await;
    let mut request = request(&["part"], plain(255));
    request.request_id = "r-1".to_owned();
    request.part_id = "serial-7".to_owned();
    let response = ask(&server, request).await.unwrap();
    assert_eq!((response.request_id.as_str(), response.part_id.as_str()), ("r-1", "serial-7"));
    assert_eq!(
        response.result_id.as_bytes()[14],
        b'7',
        "a UUID of version 7: {}",
        response.result_id
    );
    assert_eq!(response.base_digest, crate::support::fake_base::identity().digest.to_string());
    let verdict = &response.verdicts[0];
    assert_eq!(
        (verdict.task.as_str(), verdict.label.as_str(), verdict.class_code),
        ("part", "bright", 1)
    );
    assert_eq!(
        (verdict.head_version, verdict.head_digest.clone()),
        (2, published.digest.to_string())
    );
    assert_eq!((verdict.decision(), verdict.reasons[0]), (Decision::Pass, Reason::Clear.into()));
    // softmax([10, 5])
    assert!(
        (verdict.probability - 0.993_307).abs() < 1e-5 && (verdict.margin - 0.986_614).abs() < 1e-5
    );
    let scores: Vec<_> =
        verdict.scores.iter().map(|s| (s.label.as_str(), s.class_code, s.logit)).collect();
    assert_eq!(
        scores,
        [("bright", 1, None), ("dark", 2, None)],
        "highest first, no extras unless asked for"
    );
    assert!(verdict.embedding.is_empty() && verdict.novelty.is_none() && verdict.error.is_none());
    let times = response.times.unwrap();
    assert!(times.batch_size == 1 && times.total >= times.decode + times.forward);
}

#[tokio::test]
async fn decision_follows_from_class_and_threshold() {
    let (server, _control) = server_of(&["part"]).await;
    let decision = async |red| {
        let response = ask(&server, request(&["part"], plain(red))).await.unwrap();
        (response.verdicts[0].decision(), response.verdicts[0].reasons[0])
    };
    assert_eq!(decision(250).await, (Decision::Pass, Reason::Clear.into()));
    assert_eq!(decision(10).await, (Decision::Reject, Reason::Clear.into()));
    assert_eq!(
        decision(128).await,
        (Decision::Review, Reason::LowConfidence.into()),
        "both near 0.5"
    );
}

#[tokio::test]
async fn several_tasks_are_answered_in_order_by_one_pass() {
    let (server, control) = server_of(&["a", "b", "c"]).await;
    let response = ask(&server, request(&["c", "a", "b"], plain(100))).await.unwrap();
    let tasks: Vec<_> = response.verdicts.iter().map(|verdict| verdict.task.as_str()).collect();
    assert_eq!(tasks, ["c", "a", "b"]);
    assert_eq!(
        control.passes(),
        [vec![100]],
        "tasks that agree on the preprocessing share the image"
    );
}

#[tokio::test]
async fn tasks_with_different_preprocessing_get_separate_images() {
    let builder = TestServer::builder();
    let mut other = heads::draft("other", 0.0);
    other.preprocess =
        Preprocess { resize: Resize::Letterbox { size: 64 }, ..Preprocess::default() };
    heads::publish(builder.heads(), &heads::draft("part", 0.0));
    heads::publish(builder.heads(), &other);
    let (server, control) = builder.start_fake().await;
    let response = ask(&server, request(&["part", "other"], plain(255))).await.unwrap();
    assert_eq!(response.verdicts.len(), 2);
    assert_eq!(response.times.unwrap().batch_size, 2);
    let passes = control.passes();
    assert_eq!(passes.concat().len(), 2, "two images, of two sizes: {passes:?}");
}

#[tokio::test]
async fn logits_and_embedding_come_when_asked_for() {
    let (server, _control) = server_of(&["part"]).await;
    let mut request = request(&["part"], plain(51));
    request.want = vec![Extra::Logits.into(), Extra::Embedding.into()];
    let verdict = ask(&server, request).await.unwrap().verdicts.remove(0);
    let embedding = verdict.embedding;
    assert!((embedding[0] - 0.2).abs() < 1e-6 && embedding.len() == 4, "{embedding:?}");
    let logits: Vec<_> = verdict.scores.iter().map(|score| score.logit.unwrap()).collect();
    assert!((logits[0] - 5.0).abs() < 1e-4 && (logits[1] - 2.0).abs() < 1e-4, "{logits:?}");
}

#[tokio::test]
async fn required_head_must_be_the_serving_one() {
    let (server, _control) = server_of(&["part"]).await;
    let digest = server.list("part").await[0].digest.clone();
    let requiring = |required: &str| {
        let mut request = request(&["part"], plain(1));
        request.require_head = required.to_owned();
        request
    };
    assert!(ask(&server, requiring("1")).await.is_ok());
    assert!(ask(&server, requiring(&digest)).await.is_ok());
    let (code, reason, message) = refusal(&server, requiring("2")).await;
    assert_eq!((code, reason.as_str()), (Code::FailedPrecondition, "OTHER_HEAD_SERVES"));
    assert!(message.contains("head 2 of task part is required, but version 1"), "{message}");
    assert_eq!(refusal(&server, requiring(&"0".repeat(64))).await.0, Code::FailedPrecondition);
    assert_eq!(refusal(&server, requiring("newest")).await.1, "REQUIRE_HEAD_INVALID");
}

#[tokio::test]
async fn every_request_mistake_has_code_reason_and_field() {
    let (server, control) = server_of(&["bracket-left", "bracket-right"]).await;
    type Break = fn(&mut proto::ClassifyRequest);
    let mistakes: [(Break, Code, &str, &str); 14] = [
        (|r| r.tasks.clear(), Code::InvalidArgument, "TASKS_EMPTY", "tasks"),
        (
            |r| r.tasks.push("bracket-left".to_owned()),
            Code::InvalidArgument,
            "TASK_DOUBLED",
            "tasks",
        ),
        (|r| r.tasks[0] = "../etc".to_owned(), Code::InvalidArgument, "TASK_NAME_INVALID", "tasks"),
        (|r| r.tasks[0] = "bracket-lfet".to_owned(), Code::NotFound, "TASK_UNKNOWN", "tasks"),
        (
            |r| r.tasks = (0..2000).map(|n| format!("t{n}")).collect(),
            Code::InvalidArgument,
            "TASKS_TOO_MANY",
            "tasks",
        ),
        (|r| r.image = None, Code::InvalidArgument, "IMAGE_MISSING", "image"),
        (
            |r| r.image = Some(proto::Image::default()),
            Code::InvalidArgument,
            "IMAGE_MISSING",
            "image",
        ),
        (|r| r.part_id = "x".repeat(129), Code::InvalidArgument, "ID_TOO_LONG", "part_id"),
        (
            |r| r.want = vec![Extra::Heatmap.into()],
            Code::InvalidArgument,
            "EXTRA_NOT_BUILT",
            "want",
        ),
        (|r| r.want = vec![99], Code::InvalidArgument, "EXTRA_UNKNOWN", "want"),
        (
            |r| {
                r.require_head = "1".to_owned();
                r.tasks.push("bracket-right".to_owned());
            },
            Code::InvalidArgument,
            "REQUIRE_HEAD_WITH_MANY_TASKS",
            "require_head",
        ),
        (
            |r| r.roi = Some(proto::Roi { x: 30, y: 0, width: 11, height: 5 }),
            Code::InvalidArgument,
            "ROI_OUTSIDE_IMAGE",
            "roi",
        ),
        (
            |r| r.roi = Some(proto::Roi { x: u32::MAX, y: 0, width: u32::MAX, height: 5 }),
            Code::InvalidArgument,
            "ROI_OUTSIDE_IMAGE",
            "roi",
        ),
        (
            |r| {
                let frame =
                    proto::RawFrame { pixel_format: "Mono7".to_owned(), ..Default::default() };
                r.image = Some(proto::Image { data: Some(proto::image::Data::Raw(frame)) });
            },
            Code::InvalidArgument,
            "PIXEL_FORMAT_UNKNOWN",
            "image.raw.pixel_format",
        ),
    ];
    for (number, (mistake, code, reason, field)) in mistakes.into_iter().enumerate() {
        let mut wrong = request(&["bracket-left"], plain(1));
        mistake(&mut wrong);
        let status = ask(&server, wrong).await.expect_err("the request is wrong");
        let details = status.get_error_details();
        let found = details.error_info().map(|info| info.reason.as_str());
        assert_eq!((status.code(), found), (code, Some(reason)), "mistake {number}: {status:?}");
        let fields = details.bad_request().map(|bad| bad.field_violations[0].field.as_str());
        assert_eq!(fields, Some(field), "mistake {number}");
    }
    let (_, _, message) = refusal(&server, request(&["bracket-lfet"], plain(1))).await;
    assert!(message.contains("did you mean bracket-left or bracket-right?"), "{message}");
    assert!(control.passes().is_empty(), "no mistake reached the base");
}

#[tokio::test]
async fn failing_or_panicking_base_is_internal_and_server_goes_on() {
    let (server, control) = server_of(&["part"]).await;
    for behaviour in [Behaviour::Fail, Behaviour::Panic] {
        control.behave(behaviour);
        let (code, reason, message) = refusal(&server, request(&["part"], plain(1))).await;
        assert_eq!((code, reason.as_str()), (Code::Internal, "INTERNAL"));
        assert!(!message.contains("secret detail") && !message.contains("panic"), "{message}");
    }
    control.behave(Behaviour::Well);
    assert!(ask(&server, request(&["part"], plain(1))).await.is_ok());
}

#[tokio::test]
async fn liveness_fails_while_the_device_is_lost() {
    let (server, control) = server_of(&["part"]).await;
    control.behave(Behaviour::Fail);
    for _ in 0..3 {
        refusal(&server, request(&["part"], plain(1))).await;
    }
    assert_eq!(server.get("/livez").await.0, 503);
    control.behave(Behaviour::Well);
    assert!(ask(&server, request(&["part"], plain(1))).await.is_ok());
    assert_eq!(server.get("/livez").await.0, 200);
}

#[tokio::test]
async fn stream_answers_each_request_and_survives_failed_ones() {
    let (server, _control) = server_of(&["part"]).await;
    let requests: Vec<_> = (0..100u8)
        .map(|number| {
            let mut request = match number {
                13 => request(&["part"], b"no picture".to_vec()),
                14 => request(&["unknown-task", "part"], plain(1)),
                15 => request(&[], plain(1)),
                _ => request(&["part"], plain(number)),
            };
            request.request_id = number.to_string();
            request
        })
        .collect();
    let mut client = server.classifier().await;
    let answers = client.classify_stream(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let mut answers: Vec<proto::ClassifyResponse> =
        within_patience("all answers", answers.map(Result::unwrap).collect::<Vec<_>>()).await;
    answers.sort_by_key(|answer| answer.request_id.parse::<u32>().unwrap());
    assert_eq!(answers.len(), 100);
    for (number, answer) in answers.iter().enumerate() {
        let verdict = &answer.verdicts[0];
        let error = verdict.error.as_ref().map(|error| (error.code, error.reason.as_str()));
        match number {
            13 => assert_eq!(error, Some((Code::InvalidArgument.into(), "IMAGE_FORMAT_UNKNOWN"))),
            14 => {
                assert_eq!(error, Some((Code::NotFound.into(), "TASK_UNKNOWN")));
                assert_eq!(answer.verdicts.len(), 1, "one verdict tells why");
            }
            15 => assert_eq!(error, Some((Code::InvalidArgument.into(), "TASKS_EMPTY"))),
            _ => assert_eq!(error, None),
        }
        let expected = matches!(number, 13..=15);
        assert_eq!(verdict.decision() == Decision::NotJudged, expected, "request {number}");
    }
}

#[tokio::test]
async fn list_of_a_misnamed_task_has_code_reason_and_field() {
    let (server, _control) = server_of(&["bracket-left"]).await;
    let mut client = HeadsClient::new(server.channel().await);
    let asked = proto::ListHeadsRequest { task: "../etc\n".to_owned() };
    let status = client.list_heads(asked).await.unwrap_err();
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.as_str());
    assert_eq!((status.code(), reason), (Code::InvalidArgument, Some("TASK_NAME_INVALID")));
    assert_eq!(details.bad_request().unwrap().field_violations[0].field, "task");
}
