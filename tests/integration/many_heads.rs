//! Ten thousand heads; `make bench-heads` measures their load time and memory.

use turret::{head::Linear, store::HeadDraft};

use crate::support::{
    FakeBase, TestServer, fake_base, heads,
    pictures::{plain, request},
};

const HEADS: usize = 10_000;
const CLASSES: usize = 10;
const WIDTH: usize = 512;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_heads_load_and_answer_as_themselves() {
    let builder = TestServer::builder();
    for number in 0..HEADS {
        let content = heads::content(&draft(number), 1);
        let path = heads::path_of(builder.heads(), content.task.as_str(), 1);
        fs_err::create_dir(path.parent().unwrap()).unwrap();
        fs_err::write(path, content.to_bytes().unwrap()).unwrap();
    }
    let (base, _control) = FakeBase::with_width(WIDTH);
    let server = builder.base(base).start().await;
    assert_eq!(server.metric("turret_heads_serving").await, Some(HEADS as f64));
    assert_eq!(server.list("").await.len(), HEADS);
    let url: turret_client::ServerUrl = server.grpc.to_string().parse().unwrap();
    // Smaller than the whole list: it comes in pages.
    let lister = turret_client::Client::builder(url).max_message_bytes(1_100_000);
    let listed = lister.connect().await.unwrap().heads(None).await.unwrap().heads;
    assert!(listed.len() == HEADS && listed.is_sorted_by(|one, other| one.task < other.task));
    let mut client = server.classifier().await;
    for number in (0..HEADS).step_by(997) {
        let task = task(number);
        let response = client.classify(request(&[&task], plain(1))).await.unwrap().into_inner();
        assert_eq!(response.verdicts[0].label, format!("class-{}", number % CLASSES), "{task}");
    }
    // One image, a thousand heads, one forward pass.
    let tasks: Vec<String> = (0..1000).map(task).collect();
    let tasks: Vec<&str> = tasks.iter().map(String::as_str).collect();
    let response = client.classify(request(&tasks, plain(1))).await.unwrap().into_inner();
    let right = response
        .verdicts
        .iter()
        .enumerate()
        .filter(|(n, v)| v.label == format!("class-{}", n % CLASSES));
    assert_eq!(right.count(), 1000);
}

fn task(number: usize) -> String {
    format!("task-{number:05}")
}

/// Returns a head that answers `class-<number modulo ten>` for every picture.
fn draft(number: usize) -> HeadDraft {
    let mut bias = vec![0.0; CLASSES];
    bias[number % CLASSES] = 9.0;
    let mut draft = heads::draft(&task(number), 0.0);
    draft.base = fake_base::identity();
    draft.classes = (0..CLASSES).map(|class| (format!("class-{class}"), false)).collect();
    draft.decision = turret::head::DecisionRule::uniform(0.5, CLASSES);
    draft.linear = Linear::new(vec![0.001; CLASSES * WIDTH], bias, WIDTH).unwrap();
    draft
}
