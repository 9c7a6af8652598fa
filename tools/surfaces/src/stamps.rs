//! Plates with stamped pairs of a ring and a disc to its right; a bad plate has one pair reversed.
//!
//! Ink and shapes are the same on both, so only the order within pairs tells them apart.

use rand::{Rng, RngExt as _, seq::SliceRandom as _};

use crate::{
    noise::smoothstep,
    sheet::{SIDE, Sheet},
};

/// Grid of places for pairs, `COLUMNS` by `ROWS`.
const COLUMNS: u32 = 3;
const ROWS: u32 = 4;
const PAIRS: usize = 6;
/// Largest rotation of a stamp, in radians.
const MOST_TURN: f32 = 0.3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plate {
    Ok,
    Reversed,
}

impl Plate {
    pub(crate) const ALL: [Self; 2] = [Self::Ok, Self::Reversed];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Reversed => "reversed",
        }
    }
}

pub(crate) fn stamp(sheet: &mut Sheet, plate: Plate, rng: &mut impl Rng) {
    let mut places: Vec<(u32, u32)> =
        (0..COLUMNS * ROWS).map(|place| (place % COLUMNS, place / COLUMNS)).collect();
    places.shuffle(rng);
    for (number, (column, row)) in places.into_iter().take(PAIRS).enumerate() {
        let mut within = |place: u32, places: u32| {
            let size = SIDE as f32 / places as f32;
            (place as f32 + 0.5) * size + rng.random_range(-0.08..0.08) * size
        };
        let (x, y) = (within(column, COLUMNS), within(row, ROWS));
        let radius = rng.random_range(5.5..8.0);
        let depth = rng.random_range(0.3..0.55);
        let angle: f32 = rng.random_range(-MOST_TURN..MOST_TURN);
        let way = if number == 0 && plate == Plate::Reversed { -1.0 } else { 1.0 };
        let (dx, dy) = (way * 1.4 * radius * angle.cos(), way * 1.4 * radius * angle.sin());
        mark(sheet, (x - dx, y - dy), depth, |distance| {
            (distance - 0.8 * radius).abs() - 0.2 * radius
        });
        mark(sheet, (x + dx, y + dy), depth, |distance| distance - 0.8 * radius);
    }
}

/// Darkens where `outside` of the distance from the middle, in pixels of the picture, is below 0.
fn mark(sheet: &mut Sheet, (x, y): (f32, f32), depth: f32, outside: impl Fn(f32) -> f32) {
    let scale = sheet.scale;
    sheet.change_near(x, y, 14.0, |along, across| {
        -depth * smoothstep(0.7, -0.7, outside(along.hypot(across) * scale))
    });
}
