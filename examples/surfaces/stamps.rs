//! Stamped marks whose only difference is a small detail: a ring that is open on one side (Landolt, 1888), anywhere on the
//! sheet. Averages over a picture hardly tell them apart, because every ring has the same ink.

use std::f32::consts::PI;

use rand::{Rng, RngExt as _};

use crate::{
    noise::smoothstep,
    sheet::{SIDE, Sheet},
};

/// Half the angle of the opening.
const HALF_OPENING: f32 = 0.42;
/// The stamp is never held quite straight.
const MOST_TURN: f32 = 0.2;

/// `side` is the direction of the opening in the picture, in radians from right to down.
pub(crate) fn stamp(sheet: &mut Sheet, side: f32, rng: &mut impl Rng) {
    let radius: f32 = rng.random_range(11.0..17.0);
    let half_width = radius * rng.random_range(0.16..0.24);
    let depth = rng.random_range(0.25..0.5);
    let reach = (radius + 2.0 * half_width) * sheet.scale;
    let (x, y) = (rng.random_range(reach..SIDE as f32 - reach), rng.random_range(reach..SIDE as f32 - reach));
    let (open_along, open_across) = sheet.direction(side + rng.random_range(-MOST_TURN..MOST_TURN));
    sheet.change_near(x, y, reach, |along, across| {
        let distance = along.hypot(across);
        let off_middle = (distance - radius).abs();
        let towards_opening = (along * open_along + across * open_across) / distance.max(1e-3);
        let angle = towards_opening.clamp(-1.0, 1.0).acos();
        let closed = smoothstep(HALF_OPENING - 0.06, HALF_OPENING + 0.06, angle);
        -depth * closed * smoothstep(half_width + 0.7, half_width - 0.7, off_middle)
    });
}

/// Right, down, left, up.
pub(crate) const SIDES: [(&str, f32); 4] =
    [("right", 0.0), ("down", PI / 2.0), ("left", PI), ("up", 1.5 * PI)];
