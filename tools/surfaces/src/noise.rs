//! Random fields over the plane as functions of position: smooth noise and a net of cracks.

use rand::{Rng, RngExt as _};

/// A random field, determined by its seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noise {
    seed: u32,
}

impl Noise {
    pub(crate) fn random(rng: &mut impl Rng) -> Self {
        Self { seed: rng.random() }
    }

    /// Returns 32 random bits of a point with integer coordinates (finalizer of MurmurHash3).
    fn bits(self, x: i32, y: i32) -> u32 {
        let mut h = self.seed ^ x.cast_unsigned().wrapping_mul(0x9E37_79B1);
        h = (h ^ (h >> 15)).wrapping_add(y.cast_unsigned().wrapping_mul(0x85EB_CA77));
        h = (h ^ (h >> 16)).wrapping_mul(0x85EB_CA6B);
        h = (h ^ (h >> 13)).wrapping_mul(0xC2B2_AE35);
        h ^ (h >> 16)
    }

    fn lattice(self, x: i32, y: i32) -> f32 {
        (self.bits(x, y) >> 8) as f32 * 2.0f32.powi(-23) - 1.0
    }

    /// Returns value noise in -1..1 with features about 1 wide.
    pub(crate) fn smooth(self, x: f32, y: f32) -> f32 {
        let (column, row) = (x.floor(), y.floor());
        let (right, down) = (ease(x - column), ease(y - row));
        let (column, row) = (column as i32, row as i32);
        let upper = mix(self.lattice(column, row), self.lattice(column + 1, row), right);
        let lower = mix(self.lattice(column, row + 1), self.lattice(column + 1, row + 1), right);
        mix(upper, lower, down)
    }

    /// Sums `octaves` smooth fields, each of half the size and strength of the last, in -1..1.
    pub(crate) fn fractal(self, x: f32, y: f32, octaves: u32) -> f32 {
        let (mut sum, mut weights) = (0.0, 0.0);
        for octave in 0..octaves {
            let frequency = 2.0f32.powi(octave.cast_signed());
            let layer = Self { seed: self.seed.wrapping_add(octave.wrapping_mul(0x632B_E59B)) };
            sum += layer.smooth(x * frequency, y * frequency) / frequency;
            weights += 1.0 / frequency;
        }
        sum / weights
    }

    /// Returns the distance to the nearest border between cells about 1 wide.
    ///
    /// The cells are the Voronoi diagram of one jittered point in each unit square (Worley, "A
    /// cellular texture basis function", 1996).
    pub(crate) fn distance_to_cell_border(self, x: f32, y: f32) -> f32 {
        let (column, row) = (x.floor() as i32, y.floor() as i32);
        let (mut nearest, mut second) = ([0.0; 2], [0.0; 2]);
        let (mut nearest_square, mut second_square) = (f32::INFINITY, f32::INFINITY);
        for (i, j) in
            (row - 1..=row + 1).flat_map(|j| (column - 1..=column + 1).map(move |i| (i, j)))
        {
            let bits = self.bits(i, j);
            let jitter = |half: u32| 0.1 + 0.8 * half as f32 / 65536.0;
            let point = [i as f32 + jitter(bits & 0xFFFF), j as f32 + jitter(bits >> 16)];
            let square = (point[0] - x).powi(2) + (point[1] - y).powi(2);
            if square < nearest_square {
                (second, second_square) = (nearest, nearest_square);
                (nearest, nearest_square) = (point, square);
            } else if square < second_square {
                (second, second_square) = (point, square);
            }
        }
        let between_points = (second[0] - nearest[0]).hypot(second[1] - nearest[1]);
        (second_square - nearest_square) / (2.0 * between_points)
    }
}

/// Interpolates linearly: `from` at `t` = 0, `to` at `t` = 1.
pub(crate) fn mix(from: f32, to: f32, t: f32) -> f32 {
    from + (to - from) * t
}

/// Returns 0 up to `low`, 1 from `high` on, smooth between; falls if `low` > `high`.
pub(crate) fn smoothstep(low: f32, high: f32, value: f32) -> f32 {
    ease(((value - low) / (high - low)).clamp(0.0, 1.0))
}

fn ease(t: f32) -> f32 {
    t * t * (3.0 - 2.0 * t)
}
