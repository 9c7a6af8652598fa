//! Rolled steel sheets as reflectance, before light and camera.

use std::f32::consts::PI;

use rand::{Rng, RngExt as _};

use crate::noise::Noise;

/// Width and height of a picture in pixels, as in NEU-CLS.
pub(crate) const SIDE: u32 = 200;

/// A piece of sheet at some angle and scale, of reflectance about 1 where faultless.
#[derive(Debug)]
pub(crate) struct Sheet {
    /// SIDE x SIDE, row by row.
    reflectance: Vec<f32>,
    /// Cosine and sine of the rolling direction.
    rolling: (f32, f32),
    /// Scale of everything on the sheet; usually 1.
    pub(crate) scale: f32,
}

impl Sheet {
    /// Draws a faultless sheet: streaks along the rolling direction, cloudy tone, fine grain.
    pub(crate) fn rolled(rng: &mut impl Rng) -> Self {
        let angle: f32 = rng.random_range(0.0..PI);
        let mut sheet = Self {
            reflectance: vec![1.0; (SIDE * SIDE) as usize],
            rolling: (angle.cos(), angle.sin()),
            scale: rng.random_range(0.75..1.4),
        };
        let (streaks, clouds, grain) = (Noise::random(rng), Noise::random(rng), Noise::random(rng));
        let (length, width) = (rng.random_range(40.0..110.0), rng.random_range(1.3..3.0));
        let streaking = rng.random_range(0.06..0.20);
        let cloudiness = rng.random_range(0.03..0.12);
        let graininess = rng.random_range(0.03..0.09);
        sheet.change_everywhere(|along, across| {
            streaking * streaks.fractal(along / length, across / width, 3)
                + cloudiness * clouds.fractal(along / 90.0, across / 40.0, 3)
                + graininess * grain.smooth(along / 2.2, across / 1.1)
        });
        sheet
    }

    /// Returns the reflectance at a pixel, or at the nearest one beyond the edge.
    pub(crate) fn at(&self, x: i32, y: i32) -> f32 {
        let last = SIDE.cast_signed() - 1;
        self.reflectance[(y.clamp(0, last) * (last + 1) + x.clamp(0, last)) as usize]
    }

    pub(crate) fn mean(&self) -> f32 {
        self.reflectance.iter().sum::<f32>() / self.reflectance.len() as f32
    }

    /// Changes reflectance everywhere by the fraction that `change` returns for a place.
    ///
    /// Places are along and across the rolling direction from the centre, in pixels at scale 1.
    pub(crate) fn change_everywhere(&mut self, change: impl Fn(f32, f32) -> f32) {
        let centre = SIDE as f32 / 2.0;
        self.change_near(centre, centre, f32::INFINITY, change);
    }

    /// Does the same within `reach` of a centre, both in pixels of the picture.
    ///
    /// Places are relative to that centre.
    pub(crate) fn change_near(
        &mut self,
        centre_x: f32,
        centre_y: f32,
        reach: f32,
        change: impl Fn(f32, f32) -> f32,
    ) {
        let span = |centre: f32| {
            let pixel = |edge: f32| edge.clamp(0.0, SIDE as f32) as u32;
            pixel((centre - reach).floor())..pixel((centre + reach).ceil() + 1.0)
        };
        let (cos, sin) = self.rolling;
        for y in span(centre_y) {
            for x in span(centre_x) {
                let (dx, dy) =
                    ((x as f32 - centre_x) / self.scale, (y as f32 - centre_y) / self.scale);
                let (along, across) = (dx * cos + dy * sin, dy * cos - dx * sin);
                self.reflectance[(y * SIDE + x) as usize] *= 1.0 + change(along, across);
            }
        }
    }

    /// Converts a place along and across the rolling direction into pixels of the picture.
    pub(crate) fn pixel_of(&self, along: f32, across: f32) -> (f32, f32) {
        let (cos, sin) = self.rolling;
        let centre = SIDE as f32 / 2.0;
        (
            centre + self.scale * (along * cos - across * sin),
            centre + self.scale * (along * sin + across * cos),
        )
    }
}
