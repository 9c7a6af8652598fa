//! Defects of rolled steel, one function a class. Lengths are in pixels at scale 1.

use std::f32::consts::TAU;

use rand::{Rng, RngExt as _};

use crate::{
    noise::{Noise, mix, smoothstep},
    sheet::{SIDE, Sheet},
};

/// Adds a fine, broken net of dark cracks: bent cell borders of two sizes and varying width.
pub(crate) fn craze(sheet: &mut Sheet, rng: &mut impl Rng) {
    let (bend_along, bend_across, opening) =
        (Noise::random(rng), Noise::random(rng), Noise::random(rng));
    let depth = rng.random_range(0.25..0.5);
    let extent = rng.random_range(-0.35..0.0);
    let coarse = rng.random_range(20.0..32.0);
    let stretch = rng.random_range(1.0..1.6);
    for (cell, half_width, depth) in [(coarse, 1.1, depth), (coarse * 0.45, 0.8, depth * 0.6)] {
        let net = Noise::random(rng);
        sheet.change_everywhere(|along, across| {
            let bent_along = along + 5.0 * bend_along.fractal(along / 16.0, across / 16.0, 2);
            let bent_across = across + 5.0 * bend_across.fractal(along / 16.0, across / 16.0, 2);
            let distance = cell
                * net.distance_to_cell_border(bent_along / (cell * stretch), bent_across / cell);
            let open =
                smoothstep(extent, extent + 0.3, opening.fractal(along / 45.0, across / 45.0, 3));
            -depth * open * smoothstep(half_width * 1.8, half_width * 0.4, distance)
        });
    }
}

/// Adds large dark areas with an irregular outline and a mottled inside.
pub(crate) fn stain_in_patches(sheet: &mut Sheet, rng: &mut impl Rng) {
    let (outline, mottle) = (Noise::random(rng), Noise::random(rng));
    let size = rng.random_range(45.0..75.0);
    let field =
        move |along: f32, across: f32| outline.fractal(along / (size * 1.3), across / size, 5);
    let threshold = level_covering(sheet, rng.random_range(0.12..0.4), field);
    let darkening = rng.random_range(0.2..0.45);
    sheet.change_everywhere(|along, across| {
        let inside = smoothstep(threshold, threshold + 0.07, field(along, across));
        -darkening * inside * (0.85 + 0.35 * mottle.fractal(along / 9.0, across / 5.0, 2))
    });
}

/// Adds many small round pits of varying density, dark inside with one lit edge.
pub(crate) fn pit(sheet: &mut Sheet, rng: &mut impl Rng) {
    let density = Noise::random(rng);
    let count = rng.random_range(45..150);
    let largest = rng.random_range(2.2..4.2);
    let light_angle: f32 = rng.random_range(0.0..TAU);
    let (light_along, light_across) = (light_angle.cos(), light_angle.sin());
    for _ in 0..count {
        let (x, y) = place_in_picture(0.0, rng);
        if density.smooth(x / 50.0, y / 50.0) < rng.random_range(-1.0..0.4) {
            continue;
        }
        // Small pits are far more frequent than large ones.
        let radius = mix(0.9, largest, rng.random_range(0.0f32..1.0).powi(2));
        let depth = rng.random_range(0.3..0.65);
        let rim = rng.random_range(0.1..0.3);
        let squeeze = rng.random_range(0.75..1.3);
        let dents = Noise::random(rng);
        sheet.change_near(x, y, radius * sheet.scale * 3.0, |along, across| {
            let distance = along.hypot(across * squeeze) / radius
                + 0.3 * dents.smooth(along / 1.5, across / 1.5);
            let on_lit_side = (along * light_along + across * light_across) / (radius * 1.3);
            let ring = smoothstep(0.7, 1.1, distance) * smoothstep(1.9, 1.2, distance);
            rim * ring * on_lit_side.max(0.0) - depth * smoothstep(1.25, 0.6, distance)
        });
    }
}

/// Adds dark ragged flakes in a few bands, stretched along the rolling direction.
pub(crate) fn roll_scale_in(sheet: &mut Sheet, rng: &mut impl Rng) {
    let half = SIDE as f32 / 2.0 / sheet.scale;
    let bands: Vec<f32> =
        (0..rng.random_range(1..4)).map(|_| rng.random_range(-0.7..0.7) * half).collect();
    let band_width = rng.random_range(0.2..0.5) * half;
    let depth = rng.random_range(0.25..0.5);
    for _ in 0..rng.random_range(30..80) {
        let band = bands[rng.random_range(0..bands.len())];
        let across =
            band + band_width * (rng.random_range(-1.0f32..1.0) + rng.random_range(-1.0f32..1.0));
        let (x, y) = sheet.pixel_of(rng.random_range(-1.2..1.2) * half, across);
        let half_length = mix(4.0, 20.0, rng.random_range(0.0f32..1.0).powi(2));
        let half_width = half_length * rng.random_range(0.12..0.3) + 0.7;
        let depth = depth * rng.random_range(0.6..1.2);
        let ragged = Noise::random(rng);
        sheet.change_near(x, y, half_length * sheet.scale * 1.6, |along, across| {
            let distance = (along / half_length).hypot(across / half_width)
                + 0.75 * ragged.fractal(along / 5.0, across / 2.0, 3);
            -depth * smoothstep(1.05, 0.75, distance) + 0.08 * smoothstep(1.4, 1.1, distance)
        });
    }
}

/// Adds one to four long thin lines at any angle: bright bare metal, or dark dirt.
pub(crate) fn scratch(sheet: &mut Sheet, rng: &mut impl Rng) {
    let common_angle = rng.random_range(0.0..TAU);
    for _ in 0..rng.random_range(1..5) {
        let angle: f32 = common_angle + rng.random_range(-0.4..0.4);
        let (cos, sin) = (angle.cos(), angle.sin());
        let (x, y) = place_in_picture(25.0, rng);
        let half_length = rng.random_range(35.0..130.0);
        let half_width = rng.random_range(0.6..1.5);
        let bend = rng.random_range(-12.0..12.0);
        let strength: f32 = if rng.random_bool(0.7) {
            rng.random_range(0.3..0.7)
        } else {
            rng.random_range(-0.5..-0.25)
        };
        let pressure = Noise::random(rng);
        sheet.change_near(x, y, half_length * sheet.scale * 1.2, |along, across| {
            let (forward, sideways) = (along * cos + across * sin, across * cos - along * sin);
            let from_middle = forward / half_length;
            let offset = (sideways - bend * from_middle.powi(2)) / half_width;
            let pressed = smoothstep(1.0, 0.8, from_middle.abs())
                * (0.8 + 0.4 * pressure.smooth(forward / 12.0, 0.5));
            // Material raised along one side of the groove shades it.
            let shade = -0.3 * strength.abs() * (-(offset - 2.0).powi(2)).exp();
            pressed * (strength * (-offset.powi(2)).exp() + shade)
        });
    }
}

/// Returns the level that a field exceeds on `fraction` of the picture.
fn level_covering(sheet: &Sheet, fraction: f32, field: impl Fn(f32, f32) -> f32) -> f32 {
    let half = SIDE as f32 / 2.0 / sheet.scale;
    let grid = |i: u16| (f32::from(i) / 31.5 - 1.0) * half;
    let mut levels: Vec<f32> = (0..64)
        .flat_map(|i| (0..64).map(move |j| (i, j)))
        .map(|(i, j)| field(grid(i), grid(j)))
        .collect();
    levels.sort_unstable_by(f32::total_cmp);
    levels[((1.0 - fraction) * (levels.len() - 1) as f32) as usize]
}

/// Draws a place at least `margin` pixels from the edge, in pixels of the picture.
fn place_in_picture(margin: f32, rng: &mut impl Rng) -> (f32, f32) {
    let inside = margin..SIDE as f32 - margin;
    (rng.random_range(inside.clone()), rng.random_range(inside))
}
