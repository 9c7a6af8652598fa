//! A round trip of every call of the library.

use tokio_stream::StreamExt;
use turret_client::{
    Client, Code,
    proto::{ClassifyRequest, Decision, HeadState, RawFrame},
};

use crate::fake_server::{FakeServer, Reply};

async fn client() -> Client {
    let server = FakeServer::start(|_| Reply::Verdicts).await;
    Client::connect(server.url()).await.unwrap()
}

#[tokio::test]
async fn classify_returns_a_verdict_for_every_task() {
    let frame = RawFrame { width: 1, height: 1, ..RawFrame::default() };
    let request = ClassifyRequest::new(frame, ["bracket", "seal"]);
    let verdicts = client().await.classify(request).await.unwrap().verdicts;
    let tasks: Vec<&str> = verdicts.iter().map(|verdict| verdict.task.as_str()).collect();
    assert_eq!(tasks, ["bracket", "seal"]);
    assert_eq!(verdicts[0].decision(), Decision::Pass);
}

#[tokio::test]
async fn stream_answers_every_request_by_id() {
    let request = |id: u32| ClassifyRequest {
        request_id: id.to_string(),
        ..ClassifyRequest::new(Vec::new(), ["bracket"])
    };
    let requests = tokio_stream::iter((0..100).map(request));
    let answers = client().await.classify_stream(requests).await.unwrap();
    let ids: Vec<String> = answers.map(|answer| answer.unwrap().request_id).collect().await;
    assert_eq!(ids, (0..100).map(|id| id.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn heads_lists_all_tasks_or_one() {
    let client = client().await;
    assert_eq!(client.heads(None).await.unwrap().heads.len(), 3);
    let of_task = client.heads(Some("bracket")).await.unwrap();
    let versions: Vec<u64> = of_task.heads.iter().map(|head| head.version).collect();
    assert_eq!((versions, of_task.generation), (vec![2, 3], 7));
}

#[tokio::test]
async fn watch_returns_each_change_and_its_final_error() {
    let mut events = client().await.watch().await.unwrap();
    for expected in [HeadState::Serving, HeadState::Retired] {
        let head = events.next().await.unwrap().unwrap().head.unwrap();
        assert_eq!((head.version, head.state()), (2, expected));
    }
    let error = events.next().await.unwrap().unwrap_err();
    assert_eq!(error.code(), Some(Code::Unavailable));
}
