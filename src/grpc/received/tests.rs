use proptest::prelude::*;

use super::*;
use crate::error::ServiceError as _;

fn encoded(request: &impl Message) -> Bytes {
    request.encode_to_vec().into()
}

fn refusal<M: Checked + std::fmt::Debug>(message: Vec<u8>) -> RequestError {
    Received::<M>::decode(message.into()).unwrap().request.unwrap_err()
}

#[test]
fn sixty_megabytes_of_empty_names_are_refused_with_both_numbers() {
    let mut message = b"\x1a\x02id".to_vec();
    message.extend([0x0a, 0].repeat(30_000_000));
    let received = Received::<proto::ClassifyRequest>::decode(message.into()).unwrap();
    assert_eq!(received.echo.request_id, "id");
    let error = received.request.unwrap_err();
    assert_eq!(error.to_string(), "found 30000000 tasks, expected at most 1024");
    assert_eq!((error.reason(), error.field()), ("TASKS_TOO_MANY", Some("tasks")));
}

#[test]
fn extras_are_counted_packed_and_one_by_one() {
    let packed = [&[0x3a, 60][..], &[1; 60], &[0x38, 1].repeat(5)].concat();
    let error = refusal::<proto::ClassifyRequest>(packed);
    assert_eq!(error.to_string(), "want: found 65 extras, expected at most 64");
    assert_eq!((error.reason(), error.field()), ("EXTRAS_TOO_MANY", Some("want")));
}

#[test]
fn long_texts_are_refused_by_their_fields() {
    let long = "x".repeat(1 << 20);
    let classify = proto::ClassifyRequest::default;
    let raw = proto::RawFrame { pixel_format: long.clone(), ..Default::default() };
    let image = proto::Image { data: Some(proto::image::Data::Raw(raw)) };
    for (request, reason) in [
        (proto::ClassifyRequest { tasks: vec![long.clone()], ..classify() }, "TASK_NAME_INVALID"),
        (proto::ClassifyRequest { request_id: long.clone(), ..classify() }, "ID_TOO_LONG"),
        (proto::ClassifyRequest { part_id: long.clone(), ..classify() }, "ID_TOO_LONG"),
        (
            proto::ClassifyRequest { require_head: long.clone(), ..classify() },
            "REQUIRE_HEAD_INVALID",
        ),
        (proto::ClassifyRequest { image: Some(image), ..classify() }, "PIXEL_FORMAT_UNKNOWN"),
    ] {
        let error = refusal::<proto::ClassifyRequest>(request.encode_to_vec());
        assert_eq!(error.reason(), reason);
        assert!(error.to_string().len() < 500, "the error quotes only the start: {error}");
    }
    let request = proto::EmbedRequest { preprocess: long.clone(), ..Default::default() };
    let error = refusal::<proto::EmbedRequest>(request.encode_to_vec());
    assert_eq!(error.reason(), "PREPROCESS_INVALID");
    let request = proto::ListHeadsRequest { task: long, ..Default::default() };
    let error = refusal::<proto::ListHeadsRequest>(request.encode_to_vec());
    assert_eq!(error.reason(), "TASK_NAME_INVALID");
}

#[test]
fn picture_shares_the_bytes_of_the_message() {
    let data = proto::image::Data::Encoded(vec![7; 1000].into());
    let image = Some(proto::Image { data: Some(data) });
    let message = encoded(&proto::ClassifyRequest { image, ..Default::default() });
    let received = Received::<proto::ClassifyRequest>::decode(message.clone()).unwrap();
    let Some(proto::image::Data::Encoded(picture)) = received.request.unwrap().image.unwrap().data
    else {
        panic!("the picture is encoded");
    };
    assert!(message.as_ptr_range().contains(&picture.as_ptr()));
}

/// For any bytes: a request that is built keeps the bounds.
fn what_is_built_keeps_the_bounds(message: &[u8]) {
    let Ok(received) = Received::<proto::ClassifyRequest>::decode(message.to_vec().into()) else {
        return;
    };
    if let Ok(request) = received.request {
        assert!(request.tasks.len() <= MAX_TASKS && request.want.len() <= MAX_EXTRAS);
        assert!(request.request_id.len() <= 128 && request.part_id.len() <= 128);
        assert!(request.tasks.iter().all(|task| task.len() <= MAX_NAME_BYTES));
        assert_eq!(received.echo.request_id, request.request_id);
        assert_eq!(received.echo.part_id, request.part_id);
    }
}

proptest! {
    #[test]
    fn what_is_built_of_any_bytes_keeps_the_bounds(
        fields in proptest::collection::vec((0_u8..9, 0_usize..3, 0_usize..2000), 0..5),
        rest in proptest::collection::vec(any::<u8>(), 0..8),
    ) {
        let mut message = Vec::new();
        for (number, kind, size) in fields {
            match kind {
                // `size` times the field with an empty value.
                0 => message.extend([number << 3 | 2, 0].repeat(size)),
                // One value of `size` bytes.
                1 => {
                    message.push(number << 3 | 2);
                    prost::encode_length_delimiter(size, &mut message).unwrap();
                    message.extend(vec![b'x'; size]);
                }
                _ => message.extend([number << 3, 1].repeat(size)),
            }
        }
        message.extend(rest);
        what_is_built_keeps_the_bounds(&message);
    }
}
