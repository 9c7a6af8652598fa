//! Heads and pictures with realistic numbers.

use image::{RgbImage, imageops};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use turret::{
    base::FeatureSet,
    head::{Class, DecisionRule, Head, Linear},
    ids::{Digest, TaskName, Version},
    image::Preprocess,
};

/// Width of ResNet34's `gap` features.
pub(crate) const WIDTH: usize = 512;

pub(crate) fn task(number: usize) -> TaskName {
    format!("task-{number:04}").parse().expect("the name is valid")
}

/// Returns a head with weights as training leaves them: small, of both signs, all different.
pub(crate) fn head(number: usize, version: Version, classes: usize) -> Head {
    let mut random = ChaCha8Rng::seed_from_u64(number as u64);
    let weight = (0..classes * WIDTH).map(|_| random.random_range(-0.1..0.1)).collect();
    let bias = (0..classes).map(|_| random.random_range(-0.1..0.1)).collect();
    let class = |class| Class {
        label: format!("class-{class}").into(),
        code: class as u32 + 1,
        good: class == 0,
    };
    Head {
        task: task(number),
        version,
        digest: Digest::of(&version.to_le_bytes()),
        classes: (0..classes).map(class).collect(),
        features: FeatureSet::Gap,
        preprocess: Preprocess::default(),
        decision: DecisionRule::uniform(0.5, classes),
        linear: Linear::new(weight, bias, WIDTH).expect("the shape is right"),
        branch: None,
        arithmetic: "fp32".into(),
        size_bytes: 1,
        lazy_counters: Default::default(),
    }
}

/// Returns features as averages of ReLU outputs: about a third are zero.
pub(crate) fn features(image: usize) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(1_000_000 + image as u64);
    (0..WIDTH).map(|_| random.random_range(-1.0f32..2.0).max(0.0)).collect()
}

/// Returns a photograph of this size with sensor noise.
pub(crate) fn photograph(width: u32, height: u32) -> RgbImage {
    let camera =
        image::load_from_memory(include_bytes!("../../tests/golden/preprocess/camera.jpg"));
    let camera = camera.expect("the photograph is a JPEG").to_rgb8();
    let mut picture = imageops::resize(&camera, width, height, imageops::FilterType::CatmullRom);
    let mut random = ChaCha8Rng::seed_from_u64(7);
    for sample in picture.iter_mut() {
        *sample = sample.saturating_add_signed(random.random_range(-4..=4));
    }
    picture
}
