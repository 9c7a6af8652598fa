//! Photographs of sheets: uneven light, exposure independent of defects, focus, sensor noise.

use std::f32::consts::TAU;

use image::{GrayImage, Luma};
use rand::{Rng, RngExt as _};

use crate::sheet::{SIDE, Sheet};

pub(crate) fn photograph(sheet: &Sheet, rng: &mut impl Rng) -> GrayImage {
    let fall_off: f32 = rng.random_range(0.0..0.3);
    let fall_off_angle: f32 = rng.random_range(0.0..TAU);
    let (lamp_x, lamp_y) = (rng.random_range(-0.3..1.3), rng.random_range(-0.3..1.3));
    let (lamp_size, lamp_strength) = (rng.random_range(0.25..0.7f32), rng.random_range(0.0..0.3));
    let light = |x: f32, y: f32| {
        let slope = (x - 0.5) * fall_off_angle.cos() + (y - 0.5) * fall_off_angle.sin();
        let from_lamp = ((x - lamp_x).powi(2) + (y - lamp_y).powi(2)) / lamp_size.powi(2);
        1.0 + fall_off * slope + lamp_strength * (-from_lamp).exp()
    };
    // As with automatic exposure, the mean brightness says nothing about the class.
    let grey_of_mean = rng.random_range(85.0..165.0);
    let mean = sheet.mean();
    let contrast = rng.random_range(0.8..1.25);
    let blur = rng.random_range(0.0..0.6);
    let noise_levels = rng.random_range(1.0..5.0);
    GrayImage::from_fn(SIDE, SIDE, |x, y| {
        let seen = blurred(sheet, x.cast_signed(), y.cast_signed(), blur) / mean;
        let lit = light(x as f32 / SIDE as f32, y as f32 / SIDE as f32);
        let noise = noise_levels * unit_noise(rng);
        let grey = grey_of_mean * lit * (1.0 + contrast * (seen - 1.0)) + noise;
        Luma([grey.round() as u8])
    })
}

/// Mixes a pixel with the mean of its eight neighbours; `blur` is their share.
fn blurred(sheet: &Sheet, x: i32, y: i32, blur: f32) -> f32 {
    let square: f32 = (-1..=1)
        .flat_map(|dy| (-1..=1).map(move |dx| (dx, dy)))
        .map(|(dx, dy)| sheet.at(x + dx, y + dy))
        .sum();
    let centre = sheet.at(x, y);
    (1.0 - blur) * centre + blur * (square - centre) / 8.0
}

/// Draws a nearly Gaussian number, mean 0, variance 1: each of three parts has variance 1/3.
fn unit_noise(rng: &mut impl Rng) -> f32 {
    (0..3).map(|_| rng.random_range(-1.0f32..1.0)).sum()
}
