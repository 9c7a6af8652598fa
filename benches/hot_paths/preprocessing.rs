//! From a request's bytes to the base's input.

use std::{hint::black_box, io::Cursor};

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use image::{ImageFormat, RgbImage, codecs::jpeg::JpegEncoder};
use turret::image::{ImageLimits, ImageSource, PixelFormat, Preprocess, RawFrame, decode};

use crate::made::photograph;

pub(crate) fn bench(criterion: &mut Criterion) {
    let (limits, preprocess) = (ImageLimits::default(), Preprocess::default());
    let mut group = criterion.benchmark_group("preprocessing: decode and letterbox 224");
    for (name, source) in [
        ("JPEG 224x224", jpeg(&photograph(224, 224))),
        ("JPEG 1280x960", jpeg(&photograph(1280, 960))),
        ("raw RGB8 224x224", raw(photograph(224, 224))),
        ("raw RGB8 1280x960", raw(photograph(1280, 960))),
    ] {
        group.throughput(Throughput::Bytes(source.len_bytes() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let picture = decode(black_box(&source), &limits).expect("the picture is whole");
                black_box(preprocess.apply(&picture, None).expect("any picture can be letterboxed"))
            });
        });
    }
    group.finish();
    decoders(criterion);
}

/// Decodes the same JPEG by turns with libjpeg-turbo, as Turret does, and with zune-jpeg.
fn decoders(criterion: &mut Criterion) {
    let limits = ImageLimits::default();
    for (width, height) in [(224, 224), (1280, 960)] {
        let source = jpeg(&photograph(width, height));
        let ImageSource::Encoded(file) = &source else { return };
        let mut group = criterion.benchmark_group(format!("JPEG {width}x{height}: decode"));
        group.bench_function("libjpeg-turbo", |bencher| {
            bencher.iter(|| decode(black_box(&source), &limits).expect("the picture is whole"));
        });
        group.bench_function("zune-jpeg", |bencher| {
            bencher.iter(|| {
                image::load_from_memory_with_format(black_box(file), ImageFormat::Jpeg)
                    .expect("the picture is whole")
            });
        });
        group.finish();
    }
}

/// Encodes with quality 90.
fn jpeg(picture: &RgbImage) -> ImageSource {
    let mut file = Cursor::new(Vec::new());
    JpegEncoder::new_with_quality(&mut file, 90)
        .encode_image(picture)
        .expect("writing to memory succeeds");
    ImageSource::Encoded(file.into_inner().into())
}

fn raw(picture: RgbImage) -> ImageSource {
    let (width, height) = picture.dimensions();
    let pixels = Bytes::from(picture.into_raw());
    ImageSource::Raw(RawFrame {
        pixels,
        width,
        height,
        stride_bytes: 0,
        pixel_format: PixelFormat::Rgb8,
    })
}
