//! Small encoded pictures, and requests that carry them.

use std::io::Cursor;

use image::{ImageFormat, Rgb, RgbImage};
use turret::grpc::proto;

/// A PNG of one colour.
pub(crate) fn plain(red: u8) -> Vec<u8> {
    encode(&RgbImage::from_pixel(40, 30, Rgb([red, 20, 200])))
}

/// A PNG with 12 bits in 16: grey, 2056 of 4095.
pub(crate) fn twelve_bits_in_sixteen() -> Vec<u8> {
    let grey = image::ImageBuffer::from_pixel(40, 30, image::Luma([2_056u16]));
    let mut bytes = Cursor::new(Vec::new());
    grey.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// A PNG whose pattern depends on the seed.
#[cfg(feature = "torch")]
pub(crate) fn pattern(seed: u32) -> Vec<u8> {
    encode(&RgbImage::from_fn(150 + seed, 120, |x, y| {
        let value = (x * (seed + 3) + y * 7 + (x * y * seed) / 16) % 256;
        Rgb([value as u8, (value * 3 % 256) as u8, (255 - value) as u8])
    }))
}

fn encode(picture: &RgbImage) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner()
}

pub(crate) fn request(tasks: &[&str], bytes: Vec<u8>) -> proto::ClassifyRequest {
    proto::ClassifyRequest {
        tasks: tasks.iter().map(|task| (*task).to_owned()).collect(),
        image: Some(proto::Image { data: Some(proto::image::Data::Encoded(bytes.into())) }),
        ..Default::default()
    }
}
