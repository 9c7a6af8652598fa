//! Bad head files: the old head keeps serving, and the reason is listed.

use std::{os::unix::fs::symlink, time::Duration};

use turret::{
    grpc::proto::HeadState,
    head::{HeadContent, REFERENCE_SIDE, ReferenceSet},
    tensor_file::{NewTensor, TensorFile, to_bytes},
};

use crate::support::{
    TestServer, eventually, heads,
    pictures::{plain, request},
};

/// A server with version 1 of task `part`.
async fn serving_version_one() -> TestServer {
    let builder = TestServer::builder();
    heads::publish(builder.heads(), &heads::draft("part", 1.0));
    builder.start_fake().await.0
}

async fn version_that_answers(server: &TestServer) -> u64 {
    let mut client = server.classifier().await;
    let response = client.classify(request(&["part"], plain(200))).await.expect("a head answers");
    response.into_inner().verdicts[0].head_version
}

/// Puts the bytes as version 2 and checks that only a rejection with this reason follows.
async fn is_rejected(bytes: &[u8], reason: &str) {
    let server = serving_version_one().await;
    heads::put(&server.heads, "part", 2, bytes);
    let rejected = server.wait_for("part", 2, HeadState::Rejected).await;
    assert!(rejected.reason.contains(reason), "{reason:?} is not in {:?}", rejected.reason);
    assert_eq!(version_that_answers(&server).await, 1);
    assert_eq!(server.metric("turret_head_reloads_total{result=\"refused\"}").await, Some(1.0));
    assert_eq!(server.get("/readyz").await.0, 200, "a bad head never makes a server unready");
    // A good version that follows serves.
    heads::put(&server.heads, "part", 3, &version(3).to_bytes().unwrap());
    server.wait_for_serving("part", 3).await;
    assert_eq!(version_that_answers(&server).await, 3);
    assert_eq!(
        server.metric("turret_head_reloads_total{result=\"refused\"}").await,
        Some(1.0),
        "a rejected file is not retried until it changes"
    );
}

fn version(number: u64) -> HeadContent {
    heads::content(&heads::draft("part", number as f32), number)
}

/// Returns version 2 with other tensors under the same metadata.
fn with_tensors(tensors: &[NewTensor<'_>]) -> Vec<u8> {
    let bytes = version(2).to_bytes().unwrap();
    let metadata = TensorFile::parse(&bytes).unwrap().metadata.into_iter().collect();
    to_bytes(tensors, &metadata).unwrap()
}

#[tokio::test]
async fn old_head_serves_when_new_file_is_truncated() {
    let bytes = version(2).to_bytes().unwrap();
    is_rejected(&bytes[..bytes.len() - 7], "not a whole safetensors file").await;
}

#[tokio::test]
async fn old_head_serves_when_new_file_is_empty_or_text() {
    is_rejected(b"", "not a whole safetensors file").await;
    is_rejected(b"<html>404 not found</html>", "not a whole safetensors file").await;
}

#[tokio::test]
async fn head_with_broadcastable_shapes_is_rejected() {
    let bias = NewTensor { name: "linear.bias", shape: &[2], values: &[0.0; 2] };
    let weight = NewTensor { name: "linear.weight", shape: &[2, 4], values: &[0.0; 8] };
    is_rejected(
        &with_tensors(&[
            NewTensor { name: "linear.weight", shape: &[1, 4], values: &[0.0; 4] },
            bias,
        ]),
        "linear.weight has shape [1, 4], expected [2, 4]",
    )
    .await;
    is_rejected(
        &with_tensors(&[weight, NewTensor { name: "linear.bias", shape: &[1], values: &[0.0] }]),
        "linear.bias has shape [1], expected [2]",
    )
    .await;
    is_rejected(
        &with_tensors(&[NewTensor { name: "linear.weight", shape: &[4], values: &[0.0; 4] }, bias]),
        "linear.weight has shape [4]",
    )
    .await;
}

#[tokio::test]
async fn head_for_features_of_another_width_is_rejected() {
    let weight = NewTensor { name: "linear.weight", shape: &[2, 512], values: &[0.0; 1024] };
    let bias = NewTensor { name: "linear.bias", shape: &[2], values: &[0.0; 2] };
    is_rejected(&with_tensors(&[weight, bias]), "it reads 512 gap features, this base gives 4")
        .await;
}

#[tokio::test]
async fn half_precision_head_is_rejected_not_converted() {
    let bytes = version(2).to_bytes().unwrap();
    let metadata = TensorFile::parse(&bytes).unwrap().metadata;
    let (weight, bias) = ([0u8; 16], [0u8; 4]);
    let half = |shape: &[usize], data| {
        safetensors::tensor::TensorView::new(safetensors::Dtype::F16, shape.to_vec(), data).unwrap()
    };
    let tensors = [("linear.weight", half(&[2, 4], &weight)), ("linear.bias", half(&[2], &bias))];
    let bytes = safetensors::serialize(tensors, Some(metadata)).unwrap();
    is_rejected(&bytes, "linear.weight holds F16, expected F32").await;
}

#[tokio::test]
async fn head_with_non_finite_numbers_is_rejected() {
    let weight = NewTensor { name: "linear.weight", shape: &[2, 4], values: &[0.0; 8] };
    let bias = NewTensor { name: "linear.bias", shape: &[2], values: &[0.0, f32::NAN] };
    is_rejected(&with_tensors(&[weight, bias]), "linear.bias is not finite: element 1").await;
    let bias = NewTensor { name: "linear.bias", shape: &[2], values: &[0.0, f32::INFINITY] };
    is_rejected(&with_tensors(&[weight, bias]), "linear.bias is not finite: element 1").await;
    let huge = NewTensor { name: "linear.weight", shape: &[2, 4], values: &[f32::MAX; 8] };
    let bias = NewTensor { name: "linear.bias", shape: &[2], values: &[0.0; 2] };
    is_rejected(&with_tensors(&[huge, bias]), "overflows").await;
}

#[tokio::test]
async fn head_of_another_base_is_rejected() {
    let content = HeadContent { base: heads::other_base(), ..version(2) };
    is_rejected(&content.to_bytes().unwrap(), "it was trained on base fake").await;
}

/// Returns one picture of this red, with the features that the trainer's base allegedly computed.
fn reference(red: u8, features: [f32; 4]) -> ReferenceSet {
    let pixels = [red, 0, 0].repeat((REFERENCE_SIDE * REFERENCE_SIDE) as usize);
    ReferenceSet { pixels, features: features.to_vec() }
}

#[tokio::test]
async fn head_is_rejected_if_its_reference_features_differ_here() {
    let content = HeadContent { reference: reference(200, [0.5, 0.0, 0.0, 1.0]), ..version(2) };
    is_rejected(&content.to_bytes().unwrap(), "the features of its reference picture 1 are").await;
}

#[tokio::test]
async fn head_of_another_arithmetic_is_rejected_if_its_verdicts_differ() {
    // The red is 0.51 here and wins; it was 0.49 where the head was trained.
    let (reference, arithmetic) = (reference(130, [0.49, 0.0, 0.0, 1.0]), "bf16".to_owned());
    let content = HeadContent { reference, arithmetic, ..version(2) };
    is_rejected(&content.to_bytes().unwrap(), "is classified \"bright\" here and was \"dark\"")
        .await;
}

#[tokio::test]
async fn head_serves_if_its_reference_features_agree_here() {
    let server = serving_version_one().await;
    let exact = HeadContent { reference: reference(51, [0.2, 0.0, 0.0, 1.0]), ..version(2) };
    heads::put(&server.heads, "part", 2, &exact.to_bytes().unwrap());
    server.wait_for_serving("part", 2).await;
    let (reference, arithmetic) = (reference(51, [0.21, 0.0, 0.0, 1.0]), "bf16".to_owned());
    let near = HeadContent { reference, arithmetic, ..version(3) };
    heads::put(&server.heads, "part", 3, &near.to_bytes().unwrap());
    server.wait_for_serving("part", 3).await;
}

#[tokio::test]
async fn head_that_moves_or_reuses_a_class_code_is_rejected() {
    let mut moved = version(2);
    moved.classes[0].code = 7;
    is_rejected(
        &moved.to_bytes().unwrap(),
        "class \"bright\" has code 7, but earlier versions gave it 1",
    )
    .await;
    let mut reused = version(2);
    reused.classes[1].label = "scratch".into();
    is_rejected(&reused.to_bytes().unwrap(), "class \"scratch\" takes code 2").await;
}

#[tokio::test]
async fn file_whose_name_and_content_disagree_is_rejected() {
    is_rejected(
        &version(9).to_bytes().unwrap(),
        "it says it is version 9, but its file name says 2",
    )
    .await;
    let other_task = heads::content(&heads::draft("other", 2.0), 2);
    is_rejected(&other_task.to_bytes().unwrap(), "it is for task other").await;
}

#[tokio::test]
async fn file_renamed_into_place_in_its_folder_serves() {
    let server = serving_version_one().await;
    let waiting = server.heads.join("part/.upload");
    fs_err::write(&waiting, version(2).to_bytes().unwrap()).unwrap();
    fs_err::rename(&waiting, heads::path_of(&server.heads, "part", 2)).unwrap();
    server.wait_for_serving("part", 2).await;
    assert_eq!(version_that_answers(&server).await, 2);
}

#[tokio::test]
async fn file_that_replaces_the_serving_one_is_rejected() {
    let server = serving_version_one().await;
    let other = heads::content(&heads::draft("part", 5.0), 1);
    let waiting = server.heads.join("part/.upload");
    fs_err::write(&waiting, other.to_bytes().unwrap()).unwrap();
    fs_err::rename(&waiting, heads::path_of(&server.heads, "part", 1)).unwrap();
    let rejected = server.wait_for("part", 1, HeadState::Rejected).await;
    assert!(rejected.reason.contains("a version never changes"), "{}", rejected.reason);
    let listed: Vec<_> = server.list("part").await.into_iter().map(|head| head.state).collect();
    assert_eq!(listed, [HeadState::Serving as i32, HeadState::Rejected as i32]);
    assert_eq!(version_that_answers(&server).await, 1);
}

#[tokio::test]
async fn swapped_kubernetes_data_link_is_followed() {
    // heads/part/00000001.safetensors -> ..data/00000001.safetensors; ..data -> a dated folder.
    let builder = TestServer::builder().rescan(Duration::from_millis(100));
    let task = builder.heads().join("part");
    for (folder, versions) in [("..2026_01", 1..=1), ("..2026_02", 1..=2)] {
        fs_err::create_dir_all(task.join(folder)).unwrap();
        for number in versions {
            let path = task.join(folder).join(format!("{number:08}.safetensors"));
            fs_err::write(path, version(number).to_bytes().unwrap()).unwrap();
        }
    }
    let point_at = |folder: &str| {
        symlink(folder, task.join("..data_tmp")).unwrap();
        fs_err::rename(task.join("..data_tmp"), task.join("..data")).unwrap();
    };
    point_at("..2026_01");
    symlink("..data/00000001.safetensors", task.join("00000001.safetensors")).unwrap();
    let (server, _control) = builder.start_fake().await;
    server.wait_for_serving("part", 1).await;
    point_at("..2026_02");
    symlink("..data/00000002.safetensors", task.join("00000002.safetensors")).unwrap();
    server.wait_for_serving("part", 2).await;
    assert_eq!(version_that_answers(&server).await, 2);
    // Version 1 is another file now with the same content: nothing to reject.
    assert_eq!(server.metric("turret_head_reloads_total{result=\"refused\"}").await, Some(0.0));
}

#[tokio::test]
async fn unreadable_task_folder_changes_nothing_and_is_listed() {
    let server = serving_version_one().await;
    let (task, aside) = (server.heads.join("part"), server.folder().join("aside"));
    fs_err::rename(&task, &aside).unwrap();
    // A link to itself is unreadable even for root.
    symlink(&task, &task).unwrap();
    let listed = server.wait_for("part", 0, HeadState::Rejected).await;
    assert!(listed.reason.contains("failed to read directory"), "{}", listed.reason);
    assert_eq!(version_that_answers(&server).await, 1);
    assert_eq!(server.metric("turret_head_reloads_total{result=\"scan_failed\"}").await, Some(1.0));
    fs_err::remove_file(&task).unwrap();
    fs_err::rename(&aside, &task).unwrap();
    eventually("the folder is no longer listed", async || server.list("part").await.len() == 1)
        .await;
    assert_eq!(version_that_answers(&server).await, 1);
}

#[tokio::test]
async fn lost_heads_folder_removes_nothing_and_recovers() {
    let builder = TestServer::builder().rescan(Duration::from_millis(50));
    heads::publish(builder.heads(), &heads::draft("part", 1.0));
    let (server, _control) = builder.start_fake().await;
    let aside = server.folder().join("aside");
    fs_err::rename(&server.heads, &aside).unwrap();
    let listed = server.wait_for("", 0, HeadState::Rejected).await;
    assert!(listed.reason.contains("cannot read the folder of heads"), "{}", listed.reason);
    assert_eq!(version_that_answers(&server).await, 1);
    assert_eq!(server.get("/readyz").await.0, 200);
    heads::publish(&aside, &heads::draft("part", 2.0));
    fs_err::rename(&aside, &server.heads).unwrap();
    server.wait_for_serving("part", 2).await;
    // File events work again in the restored folder.
    heads::publish(&server.heads, &heads::draft("part", 3.0));
    server.wait_for_serving("part", 3).await;
    eventually("the folder is no longer listed", async || server.list("part").await.len() == 1)
        .await;
}

#[tokio::test]
async fn emptied_task_folder_withdraws_but_removed_one_does_not() {
    let server = serving_version_one().await;
    let (task, aside) = (server.heads.join("part"), server.folder().join("aside"));
    fs_err::rename(&task, &aside).unwrap();
    let listed = server.wait_for("part", 0, HeadState::Rejected).await;
    assert!(listed.reason.contains("its folder is gone"), "{}", listed.reason);
    assert_eq!(version_that_answers(&server).await, 1);
    fs_err::create_dir(&task).unwrap();
    server.wait_for("part", 1, HeadState::Retired).await;
    assert!(server.list("").await.is_empty());
    let status =
        server.classifier().await.classify(request(&["part"], plain(1))).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
    assert_eq!(server.metric("turret_heads_serving").await, Some(0.0));
}

#[tokio::test]
async fn older_version_serves_again_when_newest_is_removed() {
    let server = serving_version_one().await;
    heads::publish(&server.heads, &heads::draft("part", 2.0));
    server.wait_for_serving("part", 2).await;
    fs_err::remove_file(heads::path_of(&server.heads, "part", 2)).unwrap();
    server.wait_for_serving("part", 1).await;
    assert_eq!(version_that_answers(&server).await, 1);
}

#[tokio::test]
async fn rescan_finds_heads_where_file_events_do_not_reach() {
    // The root is a link that is swapped to another folder: the watch stays with the old one.
    let builder = TestServer::builder().rescan(Duration::from_millis(50));
    let root = builder.heads().to_owned();
    let old = root.with_file_name("old");
    fs_err::rename(&root, &old).unwrap();
    symlink(&old, &root).unwrap();
    heads::publish(&old, &heads::draft("part", 1.0));
    let (server, _control) = builder.start_fake().await;
    let new = root.with_file_name("new");
    heads::publish(&new, &heads::draft("part", 1.0));
    heads::publish(&new, &heads::draft("part", 2.0));
    symlink(&new, root.with_file_name("link")).unwrap();
    fs_err::rename(root.with_file_name("link"), &root).unwrap();
    server.wait_for_serving("part", 2).await;
}
