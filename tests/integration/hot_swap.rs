//! Heads are swapped while the server answers requests.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use turret::grpc::proto;

use crate::support::{
    TestServer, heads,
    pictures::{plain, request},
    within_patience,
};

const VERSIONS: u64 = 200;
const CLIENTS: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn swaps_fail_no_request_and_mix_no_versions() {
    let builder = TestServer::builder();
    // Every version has labels and logits of its own.
    let draft = |version: u64| {
        let mut draft = heads::draft("part", version as f32);
        draft.classes =
            vec![(format!("bright-{version}"), true), (format!("dark-{version}"), false)];
        draft
    };
    let digests = Arc::new(Mutex::new(HashMap::new()));
    let record = |published: turret::store::Published| {
        digests.lock().unwrap().insert(published.version, published.digest.to_string());
    };
    record(heads::publish(builder.heads(), &draft(1)));
    let (server, _control) = builder.start_fake().await;
    server.wait_for_serving("part", 1).await;

    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let (address, digests) = (server.grpc, digests.clone());
            tokio::spawn(classify_until_the_last_version(address, number as u8, digests))
        })
        .collect();
    for version in 2..=VERSIONS {
        record(heads::publish(&server.heads, &draft(version)));
        // Lets answers come between versions, whatever the machine's speed.
        tokio::task::yield_now().await;
    }
    let mut answers = 0;
    for client in clients {
        answers += within_patience("a client to see the last version", client).await.unwrap();
    }
    assert!(answers > CLIENTS as u64, "clients asked while versions changed");
    assert_eq!(server.metric("turret_head_reloads_total{result=\"refused\"}").await, Some(0.0));
    assert_eq!(server.metric("turret_heads_serving").await, Some(1.0));
}

#[tokio::test]
async fn rescan_asked_for_finds_what_no_event_told() {
    let builder = TestServer::builder();
    let root = builder.heads().to_owned();
    let (old, new) = (root.with_file_name("old"), root.with_file_name("new"));
    heads::publish(&old, &heads::draft("part", 0.0));
    (0..2).for_each(|_| drop(heads::publish(&new, &heads::draft("part", 1.0))));
    fs_err::remove_dir(&root).unwrap();
    std::os::unix::fs::symlink(&old, &root).unwrap();
    let (server, _control) = builder.start_fake().await;
    server.wait_for_serving("part", 1).await;
    // As Kubernetes swaps a volume: nothing happens in the folder that is watched.
    let swap = root.with_file_name("swap");
    std::os::unix::fs::symlink(&new, &swap).unwrap();
    fs_err::rename(&swap, &root).unwrap();
    server.rescan();
    server.wait_for_serving("part", 2).await;
}

/// Returns the number of answers; panics on the first failure or mix of versions.
async fn classify_until_the_last_version(
    address: std::net::SocketAddr,
    red: u8,
    digests: Arc<Mutex<HashMap<u64, String>>>,
) -> u64 {
    let mut client =
        proto::classifier_client::ClassifierClient::connect(format!("http://{address}"))
            .await
            .unwrap();
    let (mut answers, mut newest_seen) = (0, 0);
    while newest_seen < VERSIONS {
        let mut request = request(&["part"], plain(red));
        request.want = vec![proto::Extra::Logits.into()];
        let response = client.classify(request).await.expect("no request fails").into_inner();
        let verdict = &response.verdicts[0];
        let version = verdict.head_version;
        assert!(version >= newest_seen, "version {version} after {newest_seen}");
        newest_seen = version;
        // The publisher may not have recorded the newest yet.
        if let Some(digest) = digests.lock().unwrap().get(&version) {
            assert_eq!(verdict.head_digest, *digest);
        }
        for score in &verdict.scores {
            let (class, of) = score.label.split_once('-').unwrap();
            assert_eq!(of, version.to_string(), "a label of another version");
            let expected =
                version as f32 + if class == "dark" { 5.0 } else { 10.0 * f32::from(red) / 255.0 };
            let logit = score.logit.unwrap();
            assert!(
                (logit - expected).abs() < 0.01,
                "{logit} is not {expected}: weights of another version"
            );
        }
        answers += 1;
    }
    answers
}

#[tokio::test]
async fn restarted_server_serves_what_its_peer_serves() {
    let builder = TestServer::builder();
    let root = builder.heads().to_owned();
    heads::publish(&root, &heads::draft("part", 1.0));
    let (server, _control) = builder.start_fake().await;
    heads::publish(&root, &heads::draft("part", 2.0));
    server.wait_for_serving("part", 2).await;
    // Moves a class code, so the server that knows version 2 rejects it.
    let mut moved = heads::content(&heads::draft("part", 3.0), 3);
    moved.classes[0].code = 2;
    moved.classes[1].code = 1;
    heads::put(&root, "part", 3, &moved.to_bytes().unwrap());
    server.wait_for("part", 3, proto::HeadState::Rejected).await;

    let peer = TestServer::builder();
    copy_folder(&root, peer.heads());
    let (peer, _control) = peer.start_fake().await;
    let states = |heads: Vec<proto::Head>| {
        heads
            .into_iter()
            .map(|head| (head.version, head.state, head.digest, head.reason))
            .collect::<Vec<_>>()
    };
    assert_eq!(states(peer.list("").await), states(server.list("").await));
}

fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
    for entry in fs_err::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs_err::create_dir_all(&target).unwrap();
            copy_folder(&entry.path(), &target);
        } else {
            fs_err::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn watchers_see_every_change_in_order() {
    let builder = TestServer::builder();
    heads::publish(builder.heads(), &heads::draft("part", 1.0));
    let (server, _control) = builder.start_fake().await;
    let mut client = proto::heads_client::HeadsClient::new(server.channel().await);
    let mut events = client.watch_heads(proto::WatchHeadsRequest {}).await.unwrap().into_inner();
    let mut next = async || {
        let event = within_patience("an event", events.message()).await.unwrap().unwrap();
        let head = event.head.unwrap();
        (head.version, proto::HeadState::try_from(head.state).unwrap())
    };
    assert_eq!(next().await, (1, proto::HeadState::Serving));
    heads::publish(&server.heads, &heads::draft("part", 2.0));
    assert_eq!(next().await, (2, proto::HeadState::Serving));
    assert_eq!(next().await, (1, proto::HeadState::Retired));
    heads::put(&server.heads, "part", 3, b"rubbish");
    assert_eq!(next().await, (3, proto::HeadState::Rejected));
}
