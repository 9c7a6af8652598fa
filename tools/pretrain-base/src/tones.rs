//! A picture before colouring: the single channel that all other steps work on.

use std::f32::consts::TAU;

use rand::{Rng, RngExt as _};
use turret::image::Preprocess;

use crate::{
    mask::Mask,
    noise::{Noise, log_uniform, mix},
    recipe::Recipe,
    shape::Shape,
    structure::Structure,
};

/// Tones of mean 0 and deviation 1 before lighting, then in 0..1.
#[derive(Debug)]
pub(crate) struct Tones {
    side: usize,
    values: Vec<f32>,
}

impl Tones {
    /// Draws a texture, turned, mirrored and scaled at random; all else depends on the recipe.
    pub(crate) fn of_texture(recipe: &Recipe, side: usize, rng: &mut impl Rng) -> Self {
        let noise = Noise::random(rng);
        let (sin, cos) = rng.random_range(0.0..TAU).sin_cos();
        let scale = log_uniform(rng, 0.65, 1.6);
        let (right, down) =
            (scale, scale * log_uniform(rng, 0.85, 1.18) * if rng.random() { 1.0 } else { -1.0 });
        let (left, top) = (rng.random_range(-500.0..500.0), rng.random_range(-500.0..500.0));
        let values = pixels(side).map(|(x, y)| {
            let (x, y) = (x / right, y / down);
            recipe.tone(noise, left + x * cos + y * sin, top + y * cos - x * sin)
        });
        let mut tones = Self { side, values: values.collect() };
        tones.standardise();
        tones
    }

    fn standardise(&mut self) {
        let count = self.values.len() as f32;
        let mean = self.values.iter().sum::<f32>() / count;
        let variance = self.values.iter().map(|tone| (tone - mean).powi(2)).sum::<f32>() / count;
        let deviation = variance.sqrt().max(1e-3);
        self.values
            .iter_mut()
            .for_each(|tone| *tone = ((*tone - mean) / deviation).clamp(-3.0, 3.0));
    }

    /// Adds a structure of `strength` deviations to the texture, whose contrast fades to `calm`.
    pub(crate) fn add(
        &mut self,
        structure: Structure,
        mask: &Mask,
        strength: f32,
        calm: f32,
        rng: &mut impl Rng,
    ) {
        let sign = if structure.bright { 1.0 } else { -1.0 };
        match structure.shape {
            Shape::Grain => {
                let grain = Noise::random(rng);
                let wavelength = if structure.bright {
                    rng.random_range(6.0..14.0)
                } else {
                    rng.random_range(1.3..3.0)
                };
                let other = pixels(self.side)
                    .map(|(x, y)| 1.7 * grain.gradient(x / wavelength, y / wavelength));
                let other: Vec<f32> = other.collect();
                self.replace(mask, |index, _| other[index]);
            }
            Shape::Focus if structure.bright => {
                let noise: Vec<f32> = self.values.iter().map(|_| unit_noise(rng)).collect();
                self.replace(mask, |index, tone| tone + 0.4 * strength * noise[index]);
            }
            Shape::Focus => {
                let blurred = self.blurred(3);
                self.replace(mask, |index, _| blurred[index]);
            }
            Shape::Line
            | Shape::Arc
            | Shape::Ring
            | Shape::Spiral
            | Shape::Walk
            | Shape::Branches
            | Shape::Zigzag
            | Shape::Star
            | Shape::Parallels
            | Shape::Spot
            | Shape::Disc
            | Shape::Rectangle
            | Shape::Stain
            | Shape::Outline
            | Shape::Specks
            | Shape::Drops
            | Shape::Flakes
            | Shape::Net
            | Shape::Dent
            | Shape::Smear
            | Shape::Band
            | Shape::Step => {
                for (tone, coverage) in self.values.iter_mut().zip(&mask.coverage) {
                    // A structure hides part of the texture under it.
                    *tone = *tone * calm * (1.0 - 0.5 * coverage.abs())
                        + sign * strength * coverage * calm.max(0.4);
                }
            }
        }
    }

    fn replace(&mut self, mask: &Mask, other: impl Fn(usize, f32) -> f32) {
        for (index, (tone, coverage)) in self.values.iter_mut().zip(&mask.coverage).enumerate() {
            *tone = mix(*tone, other(index, *tone), *coverage);
        }
    }

    /// Applies uninformative brightness and contrast, uneven light and a lamp.
    pub(crate) fn light(&mut self, difficulty: f32, rng: &mut impl Rng) {
        let (brightness, contrast) =
            (rng.random_range(0.25..0.75f32), log_uniform(rng, mix(0.15, 0.03, difficulty), 0.22));
        let angle: f32 = rng.random_range(0.0..TAU);
        let slope = rng.random_range(0.0f32..0.6).powi(2);
        let lamp = (rng.random_range(-0.2..1.2f32), rng.random_range(-0.2..1.2f32));
        let (glow, glow_size) =
            (rng.random_range(0.0f32..0.6).powi(2), rng.random_range(0.3..0.8f32));
        let side = self.side as f32;
        for (tone, (x, y)) in self.values.iter_mut().zip(pixels(self.side)) {
            let (x, y) = (x / side, y / side);
            let from_lamp = ((x - lamp.0).powi(2) + (y - lamp.1).powi(2)) / (glow_size * glow_size);
            let light = 1.0
                + slope * ((x - 0.5) * angle.cos() + (y - 0.5) * angle.sin())
                + glow * (-from_lamp).exp();
            *tone = light * (brightness + contrast * *tone);
        }
    }

    pub(crate) fn photograph(&mut self, difficulty: f32, rng: &mut impl Rng) {
        if rng.random_bool(0.4 * f64::from(difficulty)) {
            self.values = self.blurred(rng.random_range(1..3));
        }
        let noise = difficulty * rng.random_range(0.0f32..0.2).powi(2);
        self.values
            .iter_mut()
            .for_each(|tone| *tone = (*tone + noise * unit_noise(rng)).clamp(0.0, 1.0));
    }

    /// Filters with `[1 2 1] / 4` along rows and columns, `times` times.
    fn blurred(&self, times: usize) -> Vec<f32> {
        let (side, last) = (self.side, self.side - 1);
        let mut values = self.values.clone();
        for _ in 0..times {
            let weighted =
                |before: f32, here: f32, after: f32| 0.25 * before + 0.5 * here + 0.25 * after;
            let rows: Vec<f32> = values
                .chunks_exact(side)
                .flat_map(|row| {
                    (0..side)
                        .map(|x| weighted(row[x.saturating_sub(1)], row[x], row[(x + 1).min(last)]))
                })
                .collect();
            for y in 0..side {
                let (above, below) = (y.saturating_sub(1) * side, (y + 1).min(last) * side);
                for x in 0..side {
                    values[y * side + x] =
                        weighted(rows[above + x], rows[y * side + x], rows[below + x]);
                }
            }
        }
        values
    }

    /// Returns `[3, side, side]`, normalised as Turret prepares pictures by default.
    ///
    /// Most pictures are grey, so that colour is no shortcut.
    pub(crate) fn coloured(&self, colours: &[[f32; 3]; 2], rng: &mut impl Rng) -> Vec<f32> {
        let saturation = if rng.random_bool(0.6) { 0.0 } else { rng.random_range(0.1..0.7) };
        let tint =
            [0; 3].map(|_| if saturation == 0.0 { 0.0 } else { rng.random_range(-0.05..0.05f32) });
        let Preprocess { mean, std, .. } = Preprocess::default();
        let mut planes = Vec::with_capacity(3 * self.values.len());
        for channel in 0..3 {
            let [dark, bright] = colours.map(|colour| saturation * colour[channel] + tint[channel]);
            planes.extend(self.values.iter().map(|&tone| {
                let value = (tone + mix(dark, bright, tone)).clamp(0.0, 1.0);
                (value - mean[channel]) / std[channel]
            }));
        }
        planes
    }
}

/// Returns the centres of all pixels, row by row.
fn pixels(side: usize) -> impl Iterator<Item = (f32, f32)> {
    (0..side * side).map(move |index| ((index % side) as f32 + 0.5, (index / side) as f32 + 0.5))
}

/// Draws a nearly Gaussian number of mean 0 and variance 1.
fn unit_noise(rng: &mut impl Rng) -> f32 {
    let bits = rng.next_u64();
    let part = |shift: u32| (bits >> shift & 0xFFFF) as f32 / 65536.0 - 0.5;
    // Each of the four parts has variance 1/12.
    (part(0) + part(16) + part(32) + part(48)) * 3.0f32.sqrt()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Returns the mean tone of a texture of mean 0 after adding a disc.
    fn mean_with_disc(bright: bool) -> f32 {
        const SIDE: usize = 32;
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut tones = Tones::of_texture(&Recipe::draw(0, 0), SIDE, &mut rng);
        let disc = Structure { shape: Shape::Disc, bright, class: 0 };
        let mask = disc.mask(SIDE, 0.1, &mut rng);
        tones.add(disc, &mask, 2.0, 1.0, &mut rng);
        tones.values.iter().sum::<f32>() / tones.values.len() as f32
    }

    #[test]
    fn bright_structures_raise_and_dark_ones_lower_tones() {
        assert!(mean_with_disc(true) > 0.05);
        assert!(mean_with_disc(false) < -0.05);
    }
}
