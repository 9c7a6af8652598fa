//! Hostile pictures, and pictures as cameras send them.

use std::io::Cursor;

use image::{ImageFormat, Rgb, RgbImage};
use tonic::{Code, codec::CompressionEncoding};
use tonic_types::StatusExt;
use turret::{
    grpc::proto::{self, image::Data},
    image::{Levels, Preprocess},
};

use crate::support::{
    TestServer, heads,
    pictures::{plain, twelve_bits_in_sixteen},
};

async fn server() -> TestServer {
    let builder = TestServer::builder();
    heads::publish(builder.heads(), &heads::draft("part", 0.0));
    builder.start_fake().await.0
}

fn request(data: Data) -> proto::ClassifyRequest {
    let image = Some(proto::Image { data: Some(data) });
    proto::ClassifyRequest { tasks: vec!["part".to_owned()], image, ..Default::default() }
}

fn encoded(bytes: &[u8]) -> proto::ClassifyRequest {
    request(Data::Encoded(bytes.to_vec().into()))
}

fn as_file(picture: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Returns a PNG whose header promises more than memory holds, with valid checksums.
fn bomb(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = as_file(&RgbImage::new(1, 1), ImageFormat::Png);
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let checksum = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[tokio::test]
async fn hostile_pictures_are_refused_and_the_server_goes_on() {
    let server = server().await;
    let mut client = server.classifier().await;
    let jpeg = include_bytes!("../data/baseline.jpg");
    let png = plain(9);
    let hostile: [(&str, Vec<u8>); 8] = [
        ("a bomb", bomb(50_000, 50_000)),
        ("a larger bomb", bomb(2_147_483_647, 2_147_483_647)),
        ("nothing", Vec::new()),
        ("text", b"this is no picture, only a letter".to_vec()),
        ("a jpeg cut in its header", jpeg[..40].to_vec()),
        ("a jpeg cut in the middle", jpeg[..jpeg.len() / 2].to_vec()),
        ("a jpeg without its end", jpeg[..jpeg.len() - 8].to_vec()),
        ("a png cut in the middle", png[..png.len() / 2].to_vec()),
    ];
    for (name, bytes) in hostile {
        let status = client.classify(encoded(&bytes)).await.expect_err(name);
        assert_eq!(status.code(), Code::InvalidArgument, "{name}: {status:?}");
        let field = status
            .get_error_details()
            .bad_request()
            .map(|bad| bad.field_violations[0].field.clone());
        assert!(field.is_some_and(|field| field.starts_with("image")), "{name}: {status:?}");
        assert!(client.classify(encoded(&png)).await.is_ok(), "the server goes on after {name}");
    }
}

#[tokio::test]
async fn formats_are_told_by_content_and_give_equal_answers() {
    let server = server().await;
    let mut client = server.classifier().await;
    let picture = RgbImage::from_pixel(32, 32, Rgb([200, 60, 30]));
    let raw = |pixel_format: &str, pixel: &[u8]| {
        let pixels = pixel.repeat(32 * 32).into();
        let pixel_format = pixel_format.to_owned();
        Data::Raw(proto::RawFrame { pixels, width: 32, height: 32, stride_bytes: 0, pixel_format })
    };
    let mut sources = vec![
        ("RGB8", raw("RGB8", &[200, 60, 30])),
        ("BGR8", raw("BGR8", &[30, 60, 200])),
        ("jpeg", Data::Encoded(include_bytes!("../data/red_200_60_30.jpg").to_vec().into())),
    ];
    for (name, format) in [
        ("png", ImageFormat::Png),
        ("bmp", ImageFormat::Bmp),
        ("tiff", ImageFormat::Tiff),
        ("webp", ImageFormat::WebP),
    ] {
        sources.push((name, Data::Encoded(as_file(&picture, format).into())));
    }
    for (name, data) in sources {
        let mut request = request(data);
        request.want = vec![proto::Extra::Embedding.into()];
        let response =
            client.classify(request).await.unwrap_or_else(|status| panic!("{name}: {status:?}"));
        let embedding = &response.into_inner().verdicts[0].embedding;
        for (found, expected) in embedding.iter().zip([200.0 / 255.0, 60.0 / 255.0, 30.0 / 255.0]) {
            let tolerance = if name == "jpeg" { 1.5 / 255.0 } else { 1e-6 };
            assert!((found - expected).abs() <= tolerance, "{name}: {embedding:?}");
        }
    }
}

#[tokio::test]
async fn five_megapixel_frame_fits_a_message() {
    let server = server().await;
    let (width, height, stride) = (2448u32, 2048u32, 2464u32);
    let pixels = vec![200u8; (stride * height) as usize].into();
    let frame = proto::RawFrame {
        pixels,
        width,
        height,
        stride_bytes: stride,
        pixel_format: "Mono8".to_owned(),
    };
    let response = server.classifier().await.classify(request(Data::Raw(frame))).await.unwrap();
    assert_eq!(response.into_inner().verdicts[0].label, "bright");
}

#[tokio::test]
async fn message_over_the_limit_is_refused_naming_the_limit() {
    let server = server().await;
    let mut client = server.classifier().await;
    let status = client.classify(encoded(&vec![0; 65 << 20])).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    assert!(status.message().contains("67108864"), "{}", status.message());
    assert!(client.classify(encoded(&plain(1))).await.is_ok());
}

#[tokio::test]
async fn gzip_request_is_answered_without_compression() {
    let server = server().await;
    let mut client = server.classifier().await.send_compressed(CompressionEncoding::Gzip);
    let response = client.classify(encoded(&plain(1))).await.unwrap();
    assert!(response.metadata().get("grpc-encoding").is_none());
    assert_eq!(response.into_inner().verdicts.len(), 1);
    // The whole limit can be used, however small the message is on its way.
    let status = client.classify(encoded(&vec![0; (64 << 20) - 1000])).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "zeros are no picture: {status}");
}

#[tokio::test]
async fn gzip_request_that_unpacks_to_more_than_the_limit_is_refused() {
    let server = server().await;
    let mut client = server.classifier().await.send_compressed(CompressionEncoding::Gzip);
    // Some 64 KiB on their way.
    let bomb = || encoded(&vec![0; 65 << 20]);
    let status = client.classify(bomb()).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("67108864"), "{}", status.message());
    let answers = client.classify_stream(tokio_stream::once(bomb())).await;
    let status = match answers {
        Ok(answers) => answers.into_inner().message().await.unwrap_err(),
        Err(status) => status,
    };
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(client.classify(encoded(&plain(1))).await.is_ok());
}

#[tokio::test]
async fn region_is_classified_as_if_it_were_the_picture() {
    let server = server().await;
    let mut picture = RgbImage::from_pixel(100, 80, Rgb([0, 0, 0]));
    for (x, y) in (60..90).flat_map(|x| (10..30).map(move |y| (x, y))) {
        picture.put_pixel(x, y, Rgb([250, 0, 0]));
    }
    let mut request = encoded(&as_file(&picture, ImageFormat::Png));
    request.want = vec![proto::Extra::Embedding.into()];
    request.roi = Some(proto::Roi { x: 60, y: 10, width: 30, height: 20 });
    let response = server.classifier().await.classify(request).await.unwrap().into_inner();
    assert!((response.verdicts[0].embedding[0] - 250.0 / 255.0).abs() < 1e-6);
}

#[tokio::test]
async fn each_head_sees_a_deep_picture_at_its_own_levels() {
    let builder = TestServer::builder();
    let full = heads::draft("full", 0.0);
    let levels = Some(Levels { black: 0, white: 4_095 });
    let preprocess = Preprocess { levels, ..full.preprocess.clone() };
    for task in ["twelve", "also-twelve"] {
        let head = heads::draft(task, 0.0);
        heads::publish(
            builder.heads(),
            &turret::store::HeadDraft { preprocess: preprocess.clone(), ..head },
        );
    }
    heads::publish(builder.heads(), &full);
    let (server, control) = builder.start_fake().await;
    control.forget_warm_up();
    let tasks = ["twelve", "full", "also-twelve"].map(str::to_owned).to_vec();
    let request = proto::ClassifyRequest { tasks, ..encoded(&twelve_bits_in_sixteen()) };
    server.classifier().await.classify(request).await.unwrap();
    // Two images for three heads: equal preprocessing is shared.
    assert_eq!(control.passes(), [vec![128, 8]]);
}

#[tokio::test]
async fn health_takes_gzip_like_every_service() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

    let server = server().await;
    let mut client = HealthClient::new(server.channel().await)
        .send_compressed(tonic::codec::CompressionEncoding::Gzip);
    let answer = client.check(HealthCheckRequest::default()).await;
    assert!(answer.is_ok(), "{answer:?}");
}
