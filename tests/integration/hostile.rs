//! Clients that send what no honest one does: refused early, at no cost to others.

use bytes::Bytes;
use prost::Message as _;
use tonic::Code;
use tonic_types::StatusExt;
use turret::grpc::proto::{self, Decision};

use crate::support::{
    TestServer, heads,
    pictures::{plain, request},
    process::success,
    raw::RawClient,
};

/// Returns a message of so many tasks without a name, two bytes each.
fn empty_names(request_id: &str, count: usize) -> Bytes {
    let request_id = request_id.to_owned();
    let mut message = proto::ClassifyRequest { request_id, ..Default::default() }.encode_to_vec();
    message.extend([0x0a, 0].repeat(count));
    message.into()
}

async fn server_of_part() -> TestServer {
    let builder = TestServer::builder();
    heads::publish(builder.heads(), &heads::draft("part", 0.0));
    builder.start_fake().await.0
}

/// Set for the process that measures its own memory.
const MEASURED: &str = "TURRET_TEST_MEASURED";

fn peak_memory() -> u64 {
    let status = procfs::process::Process::myself().unwrap().status().unwrap();
    status.vmhwm.unwrap() << 10
}

/// Runs this test again in a process of its own, whose memory no other test touches.
#[test]
fn sixty_megabytes_of_empty_names_cost_their_own_bytes() {
    let test = "hostile::sixty_megabytes_of_empty_names_cost_their_own_bytes";
    if std::env::var_os(MEASURED).is_none() {
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        success(alone.args([test, "--exact", "--nocapture"]).env(MEASURED, "yes"));
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = server_of_part().await;
        let mut client = RawClient::new(server.channel().await);
        let message = empty_names("many", 30_000_000);
        let size = message.len() as u64;
        let before = peak_memory();
        let status = client.classify(message).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "found 30000000 tasks, expected at most 1024");
        let reason = status.get_error_details().error_info().unwrap().reason.clone();
        assert_eq!(reason, "TASKS_TOO_MANY");
        // The client's copy and the server's; built, the names alone take 720 MB.
        let growth = peak_memory() - before;
        assert!(growth < 5 * size, "{growth} bytes for a message of {size}");
    });
}

#[tokio::test]
async fn too_many_names_on_a_stream_get_one_verdict_and_it_goes_on() {
    let server = server_of_part().await;
    let mut part = request(&["part"], plain(1));
    part.request_id = "part".to_owned();
    let messages = vec![empty_names("many", 1_000_000), part.encode_to_vec().into()];
    let mut client = RawClient::new(server.channel().await);
    let mut answers = client.stream::<proto::ClassifyResponse>("ClassifyStream", messages).await;
    let mut found = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        found.push(answer);
    }
    found.sort_by(|one, other| one.request_id.cmp(&other.request_id));
    let [many, part] = &found[..] else { panic!("{found:?}") };
    assert_eq!((many.request_id.as_str(), many.verdicts.len()), ("many", 1));
    let verdict = &many.verdicts[0];
    assert_eq!(verdict.decision(), Decision::NotJudged);
    let error = verdict.error.as_ref().unwrap();
    assert_eq!(error.message, "found 1000000 tasks, expected at most 1024");
    assert_ne!(part.verdicts[0].decision(), Decision::NotJudged, "{part:?}");
}

#[tokio::test]
async fn long_id_on_an_embed_stream_is_answered_and_it_goes_on() {
    let server = server_of_part().await;
    let image = request(&[], plain(1)).image;
    let with_id = |id: &str| proto::EmbedRequest {
        request_id: id.to_owned(),
        image: image.clone(),
        ..Default::default()
    };
    let messages = [with_id(&"x".repeat(1 << 20)), with_id("part")]
        .map(|request| Bytes::from(request.encode_to_vec()));
    let mut client = RawClient::new(server.channel().await);
    let mut answers = client.stream::<proto::EmbedResponse>("Embed", messages.to_vec()).await;
    let mut found = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        found.push(answer);
    }
    found.sort_by(|one, other| one.request_id.cmp(&other.request_id));
    let [refused, part] = &found[..] else { panic!("{found:?}") };
    assert_eq!(refused.error.as_ref().unwrap().reason, "ID_TOO_LONG");
    assert!(refused.request_id.is_empty());
    assert!(part.request_id == "part" && part.error.is_none(), "{part:?}");
}
