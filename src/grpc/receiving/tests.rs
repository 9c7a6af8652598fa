use proptest::prelude::*;
use tokio_stream::StreamExt as _;

use super::*;

const MAX: usize = 32 << 10;

fn message(flag: u8, bytes: usize) -> Vec<u8> {
    let mut message = vec![flag];
    message.extend(u32::try_from(bytes).unwrap().to_be_bytes());
    message.extend(vec![0; bytes]);
    message
}

proptest! {
    #[test]
    fn however_the_body_is_cut_its_largest_message_is_needed(
        sizes in proptest::collection::vec(0_usize..300, 1..8),
        cut in 1_usize..64,
    ) {
        let body: Vec<u8> = sizes.iter().flat_map(|&size| message(0, size)).collect();
        let mut position = Position::default();
        let needed = body.chunks(cut).map(|frame| position.advance(frame, MAX)).max();
        prop_assert_eq!(needed, sizes.into_iter().max());
    }
}

#[test]
fn compressed_message_needs_room_to_unpack_once_it_has_come() {
    let body = message(1, 100);
    let mut position = Position::default();
    assert_eq!(position.advance(&body[..104], MAX), 99);
    assert_eq!(position.advance(&body[104..], MAX), 100 + MAX);
}

#[test]
fn announced_length_alone_needs_nothing() {
    assert_eq!(Position::default().advance(&[0, 255, 255, 255, 255], MAX), 0);
}

fn received(
    budget: &ReceiveBudget,
    wait: Duration,
    body: Vec<u8>,
) -> impl Stream<Item = Result<Bytes, axum::BoxError>> + Unpin + use<> {
    let frames = tokio_stream::once(Ok::<_, std::io::Error>(Bytes::from(body)));
    CountedBody {
        frames,
        budget: budget.clone(),
        wait,
        position: Position::default(),
        held: None,
        waiting: None,
    }
}

#[tokio::test]
async fn full_budget_refuses_a_single_request_with_both_numbers() {
    let budget = ReceiveBudget::new(64 << 10, MAX);
    let mut first = received(&budget, Duration::ZERO, message(0, 40 << 10));
    assert!(first.next().await.unwrap().is_ok());
    let mut second = received(&budget, Duration::ZERO, message(0, 40 << 10));
    let error = second.next().await.unwrap().unwrap_err();
    let status = error.downcast::<Status>().unwrap();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    for number in ["40960", "65536"] {
        assert!(status.message().contains(number), "{}", status.message());
    }
    drop(first);
    let mut third = received(&budget, Duration::ZERO, message(0, 40 << 10));
    assert!(third.next().await.unwrap().is_ok(), "the room was given back");
}

#[tokio::test]
async fn stream_waits_for_room_and_goes_on() {
    let budget = ReceiveBudget::new(64 << 10, MAX);
    let mut first = received(&budget, Duration::ZERO, message(0, 40 << 10));
    assert!(first.next().await.unwrap().is_ok());
    let patient = Duration::from_secs(60);
    let mut second = received(&budget, patient, message(0, 40 << 10));
    let waiting = tokio::spawn(async move { second.next().await.unwrap().is_ok() });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    drop(first);
    assert!(waiting.await.unwrap());
}
