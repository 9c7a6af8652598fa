//! Heads with layers of their own beside linear ones.

use std::time::Duration;

use fs_err as fs;
use turret::{
    base::BranchTensor,
    grpc::proto::{self, HeadState},
};

use crate::support::{
    TestServer, eventually, heads,
    pictures::{plain, request},
};

const SWAPS: u64 = 1000;
const CLIENTS: usize = 4;
/// Bytes of a fake-base branch, which is one number.
const ONE_BRANCH: u64 = 4;

/// Returns the logits of each task for a plain picture of this red.
async fn logits(server: &TestServer, tasks: &[&str], red: u8) -> Vec<Vec<f32>> {
    let mut request = request(tasks, plain(red));
    request.want = vec![proto::Extra::Logits.into()];
    let response = server.classifier().await.classify(request).await.unwrap().into_inner();
    let of =
        |verdict: &proto::Verdict| verdict.scores.iter().filter_map(|score| score.logit).collect();
    response.verdicts.iter().map(of).collect()
}

fn near(found: &[f32], expected: [f32; 2]) -> bool {
    let mut found = found.to_vec();
    found.sort_by(f32::total_cmp);
    let mut expected = expected.to_vec();
    expected.sort_by(f32::total_cmp);
    found.len() == 2 && found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-4)
}

#[tokio::test]
async fn heads_of_a_mixed_request_read_their_own_layers_features() {
    let builder = TestServer::builder();
    heads::publish(builder.heads(), &heads::draft("linear", 1.0));
    heads::publish(builder.heads(), &heads::deep_draft("twice", 1.0, 2.0));
    heads::publish(builder.heads(), &heads::deep_draft("thrice", 1.0, 3.0));
    let (server, _control) = builder.start_fake().await;
    let found = logits(&server, &["twice", "linear", "thrice"], 51).await;
    for (logits, offset) in found.iter().zip([2.0, 1.0, 3.0]) {
        assert!(near(logits, [2.0 + offset, 5.0 + offset]), "{logits:?} for {offset}");
    }
    // Alone, where the base's own features are not needed.
    assert!(near(&logits(&server, &["thrice"], 51).await[0], [5.0, 8.0]));
    let listed = server.list("").await;
    let branches: Vec<(&str, &str)> =
        listed.iter().map(|head| (head.task.as_str(), head.branch.as_str())).collect();
    assert_eq!(branches, [("linear", ""), ("thrice", "layer4.2"), ("twice", "layer4.2")]);
    assert_eq!(server.metric("turret_deep_head_bytes").await, Some(2.0 * ONE_BRANCH as f64));
}

#[tokio::test]
async fn deep_head_beyond_the_budget_waits_until_another_is_withdrawn() {
    let builder = TestServer::builder()
        .engine(|engine| engine.deep_head_budget = ONE_BRANCH)
        .rescan(Duration::from_millis(20));
    heads::publish(builder.heads(), &heads::deep_draft("first", 1.0, 2.0));
    let (server, control) = builder.start_fake().await;
    heads::publish(&server.heads, &heads::deep_draft("second", 1.0, 3.0));
    let rejected = server.wait_for("second", 1, HeadState::Rejected).await;
    assert!(
        rejected.reason.contains("take 4 bytes") && rejected.reason.contains("--deep-head-budget"),
        "{}",
        rejected.reason
    );
    assert!(
        near(&logits(&server, &["first"], 51).await[0], [4.0, 7.0]),
        "the serving head goes on serving"
    );
    fs::remove_file(heads::path_of(&server.heads, "first", 1)).unwrap();
    server.wait_for_serving("second", 1).await;
    assert!(near(&logits(&server, &["second"], 51).await[0], [5.0, 8.0]));
    assert_eq!(control.branches(), (1, 1), "never more than the budget allows");
    assert_eq!(server.metric("turret_deep_head_budget_bytes").await, Some(ONE_BRANCH as f64));
}

#[tokio::test]
async fn layers_that_the_base_refuses_reject_the_head() {
    let builder = TestServer::builder();
    heads::publish(builder.heads(), &heads::draft("part", 1.0));
    let (server, control) = builder.start_fake().await;
    let mut draft = heads::deep_draft("part", 1.0, 2.0);
    let tensors = [("layer4.other".to_owned(), BranchTensor { shape: vec![1], values: vec![1.0] })];
    draft.branch.as_mut().unwrap().tensors = tensors.into();
    heads::publish(&server.heads, &draft);
    let rejected = server.wait_for("part", 2, HeadState::Rejected).await;
    assert!(rejected.reason.contains("cannot run here"), "{}", rejected.reason);
    assert!(near(&logits(&server, &["part"], 51).await[0], [3.0, 6.0]));
    assert_eq!(control.branches(), (0, 0));
    assert_eq!(
        server.metric("turret_deep_head_bytes").await,
        Some(0.0),
        "its memory is free again"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_head_swaps_fail_no_request_and_leak_nothing() {
    let builder = TestServer::builder().rescan(Duration::from_millis(20));
    let version = |version: u64| {
        let draft = heads::deep_draft("part", 1.0, version as f32);
        heads::content(&draft, version).to_bytes().unwrap()
    };
    heads::put(builder.heads(), "part", 1, &version(1));
    let (server, control) = builder.start_fake().await;
    let clients: Vec<_> =
        (0..CLIENTS).map(|_| tokio::spawn(classify_until_the_last_version(server.grpc))).collect();
    for number in 2..=SWAPS {
        heads::put(&server.heads, "part", number, &version(number));
        tokio::task::yield_now().await;
    }
    for client in clients {
        client.await.unwrap();
    }
    eventually("only the last version's layers are on the device", async || {
        control.branches().0 == 1
    })
    .await;
    let freed = async || server.metric("turret_deep_head_bytes").await == Some(ONE_BRANCH as f64);
    eventually("the memory of the others is free", freed).await;
    assert_eq!(server.metric("turret_head_reloads_total{result=\"refused\"}").await, Some(0.0));
}

async fn classify_until_the_last_version(address: std::net::SocketAddr) {
    let mut client =
        proto::classifier_client::ClassifierClient::connect(format!("http://{address}"))
            .await
            .unwrap();
    loop {
        let mut request = request(&["part"], plain(51));
        request.want = vec![proto::Extra::Logits.into()];
        let response = client.classify(request).await.expect("no request fails").into_inner();
        let verdict = &response.verdicts[0];
        let logits: Vec<f32> = verdict.scores.iter().filter_map(|score| score.logit).collect();
        let version = verdict.head_version as f32;
        assert!(near(&logits, [2.0 + version, 5.0 + version]), "{logits:?} of version {version}");
        if verdict.head_version == SWAPS {
            return;
        }
    }
}
