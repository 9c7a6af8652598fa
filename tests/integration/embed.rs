//! `Embed`: features over gRPC, for training on the server's device.

use turret::grpc::proto;

use crate::support::{
    TestServer, heads,
    pictures::{plain, request, twelve_bits_in_sixteen},
};

fn embed(id: &str, bytes: Vec<u8>, preprocess: &str) -> proto::EmbedRequest {
    let image = proto::Image { data: Some(proto::image::Data::Encoded(bytes.into())) };
    let (request_id, preprocess) = (id.to_owned(), preprocess.to_owned());
    proto::EmbedRequest { request_id, image: Some(image), preprocess, ..Default::default() }
}

async fn answers(
    server: &TestServer,
    requests: Vec<proto::EmbedRequest>,
) -> Vec<proto::EmbedResponse> {
    let stream = server.classifier().await.embed(tokio_stream::iter(requests)).await.unwrap();
    let mut stream = stream.into_inner();
    let mut answers = Vec::new();
    while let Some(answer) = stream.message().await.unwrap() {
        answers.push(answer);
    }
    answers.sort_by(|one, other| one.request_id.cmp(&other.request_id));
    answers
}

#[tokio::test]
async fn every_picture_gets_features_with_base_and_arithmetic() {
    let (server, _control) = TestServer::builder().start_fake().await;
    let reds = [51, 102, 255];
    let requests = reds.map(|red| embed(&format!("{red:03}"), plain(red), ""));
    let found = answers(&server, requests.to_vec()).await;
    assert_eq!(found.len(), reds.len());
    for (answer, red) in found.iter().zip(reds) {
        assert_eq!(
            (answer.request_id.as_str(), &answer.error),
            (format!("{red:03}").as_str(), &None)
        );
        // The fake base's pyramid is its gap twice.
        assert_eq!((answer.embedding.len(), answer.gap_width), (8, 4));
        assert_eq!((answer.architecture.as_str(), answer.arithmetic.as_str()), ("fake", "exact"));
        assert_eq!(answer.base_digest.len(), 64);
    }
    assert_eq!(
        server.metric("turret_requests_total{code=\"OK\",rpc=\"Embed\",task=\"\"}").await,
        Some(3.0)
    );
}

#[tokio::test]
async fn undecodable_picture_is_answered_and_so_are_the_others() {
    let (server, _control) = TestServer::builder().start_fake().await;
    let requests = vec![
        embed("a", b"no picture".to_vec(), ""),
        embed("b", plain(51), "{\"resize\": \"somehow\"}"),
        proto::EmbedRequest { request_id: "c".to_owned(), ..Default::default() },
        embed(
            "d",
            plain(51),
            "{\"resize\":{\"stretch\":{\"size\":32}},\"filter\":\"bilinear\",\"mean\":[0.5,0.5,0.5],\"std\":[0.5,0.5,0.5]}",
        ),
    ];
    let found = answers(&server, requests).await;
    let reason =
        |answer: &proto::EmbedResponse| answer.error.as_ref().map(|error| error.reason.clone());
    assert!(reason(&found[0]).is_some(), "{found:?}");
    assert_eq!(reason(&found[1]).as_deref(), Some("PREPROCESS_INVALID"));
    assert_eq!(reason(&found[2]).as_deref(), Some("IMAGE_MISSING"));
    assert!(
        reason(&found[3]).is_none() && (found[3].embedding[0] - 0.2).abs() < 1e-6,
        "{:?}",
        found[3]
    );
}

#[tokio::test]
async fn levels_of_the_preprocessing_reach_the_features() {
    let (server, _control) = TestServer::builder().start_fake().await;
    let with = |levels: &str| {
        let resize = r#""resize":{"stretch":{"size":32}},"filter":"bilinear""#;
        let json = format!(r#"{{{resize},"mean":[0.5,0.5,0.5],"std":[0.5,0.5,0.5]{levels}}}"#);
        embed(levels, twelve_bits_in_sixteen(), &json)
    };
    let requests = vec![with(""), with(r#","levels":[0,4095]"#), with(r#","levels":[9,9]"#)];
    let mut found = answers(&server, requests).await;
    found.sort_by_key(|answer| answer.embedding.first().map_or(0, |red| (red * 255.0) as u32));
    assert_eq!(found[0].error.as_ref().unwrap().reason, "PREPROCESS_INVALID");
    // 2056 of 65535 and of 4095, in 255 levels.
    for (answer, grey) in found[1..].iter().zip([8.0, 128.0]) {
        assert!((answer.embedding[0] - grey / 255.0).abs() < 1e-6, "{answer:?}");
    }
}

#[tokio::test]
async fn features_and_verdicts_share_the_device() {
    let builder = TestServer::builder();
    heads::publish(builder.heads(), &heads::draft("part", 1.0));
    let (server, control) = builder.start_fake().await;
    control.hold();
    let stream = answers(&server, vec![embed("a", plain(51), ""), embed("b", plain(52), "")]);
    let mut classifier = server.classifier().await;
    let verdict = classifier.classify(request(&["part"], plain(200)));
    let release = async {
        control.is_holding().await;
        control.release();
    };
    let (found, verdict, ()) = tokio::join!(stream, verdict, release);
    assert!(found.len() == 2 && found.iter().all(|answer| answer.error.is_none()));
    assert_eq!(verdict.unwrap().into_inner().verdicts[0].label, "bright");
}
