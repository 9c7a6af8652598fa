//! Fields, the parts of texture recipes.

use std::f32::consts::{PI, TAU};

use rand::{Rng, RngExt as _};

use crate::noise::{Noise, log_uniform, smoothstep};

/// One field of a recipe. Lengths are in pixels of a picture at scale 1.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Field {
    /// 1/f noise.
    Clouds { wavelength: f32, octaves: u32, persistence: f32 },
    /// Band-pass noise, stretched along one direction.
    Grain { wavelength: f32, stretch: f32 },
    /// Folded noise with sharp crests or valleys (ridged multifractal, Musgrave 1994).
    Ridges { wavelength: f32, octaves: u32, stretch: f32, up: bool },
    /// Stripes, straight or wavy.
    Waves { wavelength: f32, sharpness: f32, bend: f32, bend_wavelength: f32 },
    /// Cells shaded from their centres.
    Domes { wavelength: f32, roundness: f32 },
    /// Cells, each of a single tone.
    Mosaic { wavelength: f32, stretch: f32, tones: u32 },
    /// Bent borders of cells.
    Cracks { wavelength: f32, width: f32, bend: f32 },
    /// Bricks, tiles, rails or checks, each with its own tone, and joints between them.
    Lattice { pitch: f32, aspect: f32, joint: f32, offset: f32, tones: f32 },
    /// Discs in some of the squares of a jittered grid.
    Dots { pitch: f32, radius: f32, softness: f32, share: f32, jitter: f32 },
    /// Short straight pieces, aligned or in all directions.
    Segments { pitch: f32, length: f32, width: f32, spread: f32 },
    /// Islands of noise above a level.
    Blobs { wavelength: f32, octaves: u32, level: f32, softness: f32, stretch: f32 },
}

impl Field {
    pub(crate) const KINDS: u32 = 11;

    /// Draws a field of a kind below [`Self::KINDS`] with random parameters.
    pub(crate) fn draw(kind: u32, rng: &mut impl Rng) -> Self {
        let wavelength = log_uniform(rng, 4.0, 40.0);
        let octaves = rng.random_range(1..5);
        let stretch = if rng.random_bool(0.5) { 1.0 } else { log_uniform(rng, 1.5, 12.0) };
        match kind {
            0 => Self::Clouds {
                wavelength: 2.0 * wavelength,
                octaves,
                persistence: rng.random_range(0.4..0.9),
            },
            1 => Self::Grain { wavelength: 0.5 * wavelength, stretch },
            2 => Self::Ridges { wavelength, octaves, stretch, up: rng.random() },
            3 => Self::Waves {
                wavelength: 0.7 * wavelength,
                sharpness: log_uniform(rng, 0.5, 6.0),
                bend: if rng.random_bool(0.4) { 0.0 } else { rng.random_range(0.1..1.5) },
                bend_wavelength: log_uniform(rng, 10.0, 60.0),
            },
            4 => Self::Domes { wavelength, roundness: log_uniform(rng, 0.5, 2.5) },
            5 => Self::Mosaic { wavelength, stretch, tones: rng.random_range(2..6) },
            6 => Self::Cracks {
                wavelength: 1.2 * wavelength,
                width: rng.random_range(0.04..0.25),
                bend: rng.random_range(0.0..0.6),
            },
            7 => Self::Lattice {
                pitch: wavelength,
                aspect: log_uniform(rng, 0.5, 4.0),
                joint: rng.random_range(0.04..0.3),
                offset: [0.0, 0.5, 0.33][rng.random_range(0..3)],
                tones: rng.random_range(0.0..1.0),
            },
            8 => Self::Dots {
                pitch: wavelength,
                radius: rng.random_range(0.1..0.42),
                softness: rng.random_range(0.02..0.3),
                share: rng.random_range(0.2..1.0),
                jitter: if rng.random_bool(0.3) { 0.0 } else { rng.random_range(0.2..1.0) },
            },
            9 => Self::Segments {
                pitch: wavelength,
                length: rng.random_range(0.3..1.4),
                width: rng.random_range(0.03..0.15),
                spread: if rng.random_bool(0.5) { PI } else { rng.random_range(0.05..0.6) },
            },
            _ => Self::Blobs {
                wavelength: 1.5 * wavelength,
                octaves,
                level: rng.random_range(-0.2..0.4),
                softness: rng.random_range(0.02..0.2),
                stretch,
            },
        }
    }

    /// Returns the value of one draw of the field, about -1..1.
    pub(crate) fn at(&self, noise: Noise, x: f32, y: f32) -> f32 {
        match *self {
            Self::Clouds { wavelength, octaves, persistence } => {
                1.6 * noise.fractal(x / wavelength, y / wavelength, octaves + 1, persistence)
            }
            Self::Grain { wavelength, stretch } => {
                noise.gradient(x / (wavelength * stretch), y / wavelength)
            }
            Self::Ridges { wavelength, octaves, stretch, up } => {
                let folded =
                    noise.fractal(x / (wavelength * stretch), y / wavelength, octaves, 0.5).abs();
                let crest = 1.0 - 3.5 * folded;
                if up { crest } else { -crest }
            }
            Self::Waves { wavelength, sharpness, bend, bend_wavelength } => {
                let bent = bend * noise.gradient(x / bend_wavelength, y / bend_wavelength);
                let wave = (TAU * (y / wavelength + bent)).sin();
                wave.signum() * wave.abs().powf(1.0 / sharpness)
            }
            Self::Domes { wavelength, roundness } => {
                1.0 - 2.0 * noise.cell(x / wavelength, y / wavelength).to_centre.powf(roundness)
            }
            Self::Mosaic { wavelength, stretch, tones } => {
                let tone = noise.cell(x / (wavelength * stretch), y / wavelength).tone;
                2.0 * (tone * tones as f32).floor() / (tones - 1) as f32 - 1.0
            }
            Self::Cracks { wavelength, width, bend } => {
                let (u, v) = (x / wavelength, y / wavelength);
                let bent = noise.other(1);
                let shift = [
                    bend * bent.gradient(2.0 * u, 2.0 * v),
                    bend * bent.gradient(2.0 * u + 31.7, 2.0 * v),
                ];
                1.0 - 2.0
                    * smoothstep(
                        width,
                        width * 0.4,
                        noise.cell(u + shift[0], v + shift[1]).to_border,
                    )
            }
            Self::Lattice { pitch, aspect, joint, offset, tones } => {
                let (v, row) = split(y / pitch);
                let (u, column) = split(x / (pitch * aspect) + offset * row as f32);
                let to_joint = (v.min(1.0 - v)).min(aspect * u.min(1.0 - u));
                let own_tone = tones * (noise.bits(column, row) & 0xFF) as f32 / 128.0;
                smoothstep(joint * 0.3, joint * 0.7, to_joint) * (2.0 - own_tone) - 1.0
            }
            Self::Dots { pitch, radius, softness, share, jitter } => {
                let ((u, column), (v, row)) = (split(x / pitch), split(y / pitch));
                let bits = noise.bits(column, row);
                let room = jitter * (0.5 - radius);
                let place = |half: u32| 0.5 + room * (half as f32 / 32768.0 - 1.0);
                let distance = (u - place(bits & 0xFFFF)).hypot(v - place(bits >> 16));
                let present = noise.other(1).bits(column, row) as f32 / u32::MAX as f32 <= share;
                if present {
                    2.0 * smoothstep(radius + softness, radius - softness, distance) - 1.0
                } else {
                    -1.0
                }
            }
            Self::Segments { pitch, length, width, spread } => {
                let ((u, column), (v, row)) = (split(x / pitch), split(y / pitch));
                let mut nearest = f32::INFINITY;
                for (i, j) in (-1..=1).flat_map(|j| (-1..=1).map(move |i| (i, j))) {
                    let bits = noise.bits(column + i, row + j);
                    let (dx, dy) = (
                        i as f32 + (bits & 0x3FF) as f32 / 1024.0 - u,
                        j as f32 + (bits >> 10 & 0x3FF) as f32 / 1024.0 - v,
                    );
                    let (sin, cos) = (spread * ((bits >> 20) as f32 / 2048.0 - 1.0)).sin_cos();
                    let (along, across) = (dx * cos + dy * sin, dy * cos - dx * sin);
                    nearest = nearest.min((along.abs() - length / 2.0).max(0.0).hypot(across));
                }
                2.0 * smoothstep(width * 1.5, width * 0.5, nearest) - 1.0
            }
            Self::Blobs { wavelength, octaves, level, softness, stretch } => {
                let height =
                    noise.fractal(x / (wavelength * stretch), y / wavelength, octaves, 0.5);
                2.0 * smoothstep(level - softness, level + softness, height) - 1.0
            }
        }
    }
}

/// Splits into the position inside a unit square, 0..1, and the square's number.
fn split(coordinate: f32) -> (f32, i32) {
    (coordinate - coordinate.floor(), coordinate.floor() as i32)
}
