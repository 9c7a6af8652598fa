//! One training picture: a texture seen from somewhere, a structure on it, light, camera and colour.

use std::f32::consts::TAU;

use rand::{Rng, RngExt as _};

use crate::{
    mask::Mask,
    noise::{Noise, log_uniform, mix},
    structure::{Shape, Structure},
    texture::Recipe,
};

/// Side of the squares in which structures are looked for, in pixels: the stride of layer3.
pub(crate) const CELL: usize = 16;
/// Share of pictures without any structure.
const EMPTY_SHARE: f64 = 0.15;
/// As torchvision normalises, and as Turret prepares pictures by default.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

/// A picture and what there is to know about it.
#[derive(Debug)]
pub(crate) struct Picture {
    /// `[3, side, side]`, normalised.
    pub(crate) pixels: Vec<f32>,
    pub(crate) recipe: usize,
    /// Class of the structure on it, 0 if there is none.
    pub(crate) structure: usize,
    /// `[side / CELL, side / CELL]`: the class of the structure where it is seen, elsewhere 0.
    pub(crate) cells: Vec<usize>,
}

impl Picture {
    /// `difficulty` from 0 (large, strong structures on clear textures) to 1.
    pub(crate) fn draw(recipes: &[Recipe], side: usize, difficulty: f32, rng: &mut impl Rng) -> Self {
        let recipe = rng.random_range(0..recipes.len());
        let structure = (!rng.random_bool(EMPTY_SHARE)).then(|| Structure::random(rng));
        let mut tones = Tones::of_texture(&recipes[recipe], side, rng);
        let mask = match structure {
            Some(structure) => {
                let share = log_uniform(rng, mix(0.06, 0.01, difficulty), 0.3);
                let mask = structure.mask(side, share, rng);
                let strength = log_uniform(rng, mix(2.5, 0.9, difficulty), 4.0);
                let calm = if rng.random() { log_uniform(rng, mix(1.0, 0.15, difficulty), 1.0) } else { 1.0 };
                tones.lay_on(structure, &mask, strength, calm, rng);
                mask
            }
            None => Mask::empty(side),
        };
        let class = structure.map_or(0, |structure| structure.class);
        let cells = mask.seen_in_cells(CELL).into_iter().map(|seen| if seen { class } else { 0 }).collect();
        tones.light(difficulty, rng);
        tones.photograph(difficulty, rng);
        Self { pixels: tones.coloured(&recipes[recipe].colours, rng), recipe, structure: class, cells }
    }
}

/// A picture of one channel. Mean 0 and deviation 1 until the light falls on it, then 0..1.
struct Tones {
    side: usize,
    values: Vec<f32>,
}

impl Tones {
    /// A fresh draw, turned, mirrored and scaled; textures differ by recipe in everything else.
    fn of_texture(recipe: &Recipe, side: usize, rng: &mut impl Rng) -> Self {
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
        self.values.iter_mut().for_each(|tone| *tone = ((*tone - mean) / deviation).clamp(-3.0, 3.0));
    }

    /// `strength` in deviations of the texture, which first fades to `calm` of its contrast.
    fn lay_on(&mut self, structure: Structure, mask: &Mask, strength: f32, calm: f32, rng: &mut impl Rng) {
        let sign = if structure.bright { 1.0 } else { -1.0 };
        match structure.shape {
            Shape::Grain => {
                let grain = Noise::random(rng);
                let wavelength =
                    if structure.bright { rng.random_range(6.0..14.0) } else { rng.random_range(1.3..3.0) };
                let other =
                    pixels(self.side).map(|(x, y)| 1.7 * grain.gradient(x / wavelength, y / wavelength));
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

    /// Brightness and contrast that tell nothing, uneven light, a lamp.
    fn light(&mut self, difficulty: f32, rng: &mut impl Rng) {
        let (brightness, contrast) =
            (rng.random_range(0.25..0.75f32), log_uniform(rng, mix(0.15, 0.03, difficulty), 0.22));
        let angle: f32 = rng.random_range(0.0..TAU);
        let slope = rng.random_range(0.0f32..0.6).powi(2);
        let lamp = (rng.random_range(-0.2..1.2f32), rng.random_range(-0.2..1.2f32));
        let (glow, glow_size) = (rng.random_range(0.0f32..0.6).powi(2), rng.random_range(0.3..0.8f32));
        let side = self.side as f32;
        for (tone, (x, y)) in self.values.iter_mut().zip(pixels(self.side)) {
            let (x, y) = (x / side, y / side);
            let from_lamp = ((x - lamp.0).powi(2) + (y - lamp.1).powi(2)) / (glow_size * glow_size);
            let light =
                1.0 + slope * ((x - 0.5) * angle.cos() + (y - 0.5) * angle.sin()) + glow * (-from_lamp).exp();
            *tone = light * (brightness + contrast * *tone);
        }
    }

    fn photograph(&mut self, difficulty: f32, rng: &mut impl Rng) {
        if rng.random_bool(0.4 * f64::from(difficulty)) {
            self.values = self.blurred(rng.random_range(1..3));
        }
        let noise = difficulty * rng.random_range(0.0f32..0.2).powi(2);
        self.values.iter_mut().for_each(|tone| *tone = (*tone + noise * unit_noise(rng)).clamp(0.0, 1.0));
    }

    /// `[1 2 1] / 4` along rows and columns, so often.
    fn blurred(&self, times: usize) -> Vec<f32> {
        let (side, last) = (self.side, self.side - 1);
        let mut values = self.values.clone();
        for _ in 0..times {
            let weighted = |before: f32, here: f32, after: f32| 0.25 * before + 0.5 * here + 0.25 * after;
            let rows: Vec<f32> = values
                .chunks_exact(side)
                .flat_map(|row| {
                    (0..side).map(|x| weighted(row[x.saturating_sub(1)], row[x], row[(x + 1).min(last)]))
                })
                .collect();
            for y in 0..side {
                let (above, below) = (y.saturating_sub(1) * side, (y + 1).min(last) * side);
                for x in 0..side {
                    values[y * side + x] = weighted(rows[above + x], rows[y * side + x], rows[below + x]);
                }
            }
        }
        values
    }

    /// `[3, side, side]`, normalised. Grey mostly, so that colour is no short cut.
    fn coloured(&self, colours: &[[f32; 3]; 2], rng: &mut impl Rng) -> Vec<f32> {
        let saturation = if rng.random_bool(0.6) { 0.0 } else { rng.random_range(0.1..0.7) };
        let tint = [0; 3].map(|_| if saturation == 0.0 { 0.0 } else { rng.random_range(-0.05..0.05f32) });
        let mut planes = Vec::with_capacity(3 * self.values.len());
        for channel in 0..3 {
            let [dark, bright] = colours.map(|colour| saturation * colour[channel] + tint[channel]);
            planes.extend(self.values.iter().map(|&tone| {
                let value = (tone + mix(dark, bright, tone)).clamp(0.0, 1.0);
                (value - MEAN[channel]) / DEVIATION[channel]
            }));
        }
        planes
    }
}

/// The middles of all pixels, row after row.
fn pixels(side: usize) -> impl Iterator<Item = (f32, f32)> {
    (0..side * side).map(move |index| ((index % side) as f32 + 0.5, (index / side) as f32 + 0.5))
}

/// Nearly Gaussian, mean 0, variance 1.
fn unit_noise(rng: &mut impl Rng) -> f32 {
    let bits = rng.next_u64();
    let part = |shift: u32| (bits >> shift & 0xFFFF) as f32 / 65536.0 - 0.5;
    // Each of the four parts has a variance of 1/12.
    (part(0) + part(16) + part(32) + part(48)) * 3.0f32.sqrt()
}

/// A sheet of example pictures, every recipe once, for people to look at.
pub(crate) fn write_sheet(file: &std::path::Path, recipes: u32, seed: u64) -> anyhow::Result<()> {
    const SIDE: usize = 96;
    const COLUMNS: usize = 24;
    let recipes: Vec<Recipe> = (0..recipes).map(|number| Recipe::draw(number, seed)).collect();
    let rows = recipes.len().div_ceil(COLUMNS);
    let mut sheet = image::RgbImage::new((SIDE * COLUMNS) as u32, (SIDE * rows) as u32);
    for (index, recipe) in recipes.iter().enumerate() {
        let mut rng = <rand_chacha::ChaCha8Rng as rand::SeedableRng>::seed_from_u64(index as u64);
        let picture = Picture::draw(std::slice::from_ref(recipe), SIDE, 1.0, &mut rng);
        for (pixel, (x, y)) in (0..SIDE * SIDE).map(|pixel| (pixel, (pixel % SIDE, pixel / SIDE))) {
            let channel = |channel: usize| {
                let value = picture.pixels[channel * SIDE * SIDE + pixel];
                (255.0 * (value * DEVIATION[channel] + MEAN[channel])) as u8
            };
            let (column, row) = (index % COLUMNS * SIDE + x, index / COLUMNS * SIDE + y);
            sheet.put_pixel(column as u32, row as u32, image::Rgb([0, 1, 2].map(channel)));
        }
    }
    Ok(sheet.save(file)?)
}
