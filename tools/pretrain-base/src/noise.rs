//! Random fields over the plane as functions of position, with details about one unit wide.

use rand::{Rng, RngExt as _};

/// A random field, determined by its seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noise(u32);

/// A position among cells about 1 wide, each around a jittered point of its unit square.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    /// Distance to the cell's own point.
    pub(crate) to_centre: f32,
    /// Difference of the distances to the nearest and the second nearest point: 0 on a border.
    pub(crate) to_border: f32,
    /// Random number of the cell, in 0..1.
    pub(crate) tone: f32,
}

impl Noise {
    pub(crate) fn random(rng: &mut impl Rng) -> Self {
        Self(rng.random())
    }

    /// Returns a field independent of this one and of those with another number.
    pub(crate) fn other(self, number: u32) -> Self {
        Self(self.0.wrapping_add(number.wrapping_mul(0x9E37_79B9)))
    }

    /// Returns 32 random bits of a point with integer coordinates.
    pub(crate) fn bits(self, column: i32, row: i32) -> u32 {
        let mut h = self.0 ^ column.cast_unsigned().wrapping_mul(0x27D4_EB2F);
        h = (h ^ (h >> 15)).wrapping_add(row.cast_unsigned().wrapping_mul(0x1656_67B1));
        h = (h ^ (h >> 15)).wrapping_mul(0x2C1B_3C6D);
        h = (h ^ (h >> 12)).wrapping_mul(0x297A_2D39);
        h ^ (h >> 15)
    }

    /// Returns gradient noise in about -1..1 (Perlin, "Improving noise", 2002).
    pub(crate) fn gradient(self, x: f32, y: f32) -> f32 {
        let (column, row) = (x.floor(), y.floor());
        let (right, down) = (x - column, y - row);
        let (column, row) = (column as i32, row as i32);
        let slope = |i: i32, j: i32, dx: f32, dy: f32| {
            let bits = self.bits(column + i, row + j);
            let (first, second) =
                ((bits & 0xFFFF) as f32 / 32768.0 - 1.0, (bits >> 16) as f32 / 32768.0 - 1.0);
            first * dx + second * dy
        };
        let fade = |t: f32| t * t * t * (t * (t * 6.0 - 15.0) + 10.0);
        let upper = mix(slope(0, 0, right, down), slope(1, 0, right - 1.0, down), fade(right));
        let lower =
            mix(slope(0, 1, right, down - 1.0), slope(1, 1, right - 1.0, down - 1.0), fade(right));
        2.0 * mix(upper, lower, fade(down))
    }

    /// Sums `octaves` gradient noises, each of half the size and `persistence` times the strength.
    ///
    /// A persistence of 0.5 gives the spectrum of 1/f noise.
    pub(crate) fn fractal(self, x: f32, y: f32, octaves: u32, persistence: f32) -> f32 {
        let (mut sum, mut weights, mut frequency, mut weight) = (0.0, 0.0, 1.0, 1.0);
        for octave in 0..octaves {
            sum += weight * self.other(octave + 1).gradient(x * frequency, y * frequency);
            weights += weight;
            frequency *= 2.0;
            weight *= persistence;
        }
        sum / weights
    }

    /// Locates a position among cells (Worley, "A cellular texture basis function", 1996).
    pub(crate) fn cell(self, x: f32, y: f32) -> Cell {
        let (column, row) = (x.floor() as i32, y.floor() as i32);
        let (mut nearest, mut second, mut own) = (f32::INFINITY, f32::INFINITY, 0);
        for (i, j) in
            (row - 1..=row + 1).flat_map(|j| (column - 1..=column + 1).map(move |i| (i, j)))
        {
            let bits = self.bits(i, j);
            let dx = i as f32 + (bits & 0xFFFF) as f32 / 65536.0 - x;
            let dy = j as f32 + (bits >> 16) as f32 / 65536.0 - y;
            let square = dx * dx + dy * dy;
            if square < nearest {
                (second, nearest, own) = (nearest, square, bits);
            } else if square < second {
                second = square;
            }
        }
        let (nearest, second) = (nearest.sqrt(), second.sqrt());
        let tone = (own.wrapping_mul(0x9E37_79B1) >> 8) as f32 / 16_777_216.0;
        Cell { to_centre: nearest, to_border: second - nearest, tone }
    }
}

/// Interpolates linearly: `from` at `t` = 0, `to` at `t` = 1.
pub(crate) fn mix(from: f32, to: f32, t: f32) -> f32 {
    from + (to - from) * t
}

/// Returns 0 up to `low`, 1 from `high` on, smooth between; falls if `low` > `high`.
pub(crate) fn smoothstep(low: f32, high: f32, value: f32) -> f32 {
    let t = ((value - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// Draws log-uniformly.
pub(crate) fn log_uniform(rng: &mut impl Rng, low: f32, high: f32) -> f32 {
    low * (high / low).powf(rng.random_range(0.0..1.0))
}
