//! Local structures: what may lie on a texture, each shape in two polarities.

use std::f32::consts::PI;

use rand::{Rng, RngExt as _};

use crate::{brush::Brush, mask::Mask};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Line,
    Arc,
    Ring,
    Spiral,
    Walk,
    Branches,
    Zigzag,
    Star,
    Parallels,
    Spot,
    Disc,
    Rectangle,
    Stain,
    Outline,
    Specks,
    Drops,
    Flakes,
    Net,
    Dent,
    Smear,
    Band,
    Step,
    /// A patch of finer or coarser grain.
    Grain,
    /// A patch out of focus, or with noise on it.
    Focus,
}

impl Shape {
    const ALL: [Self; 24] = [
        Self::Line,
        Self::Arc,
        Self::Ring,
        Self::Spiral,
        Self::Walk,
        Self::Branches,
        Self::Zigzag,
        Self::Star,
        Self::Parallels,
        Self::Spot,
        Self::Disc,
        Self::Rectangle,
        Self::Stain,
        Self::Outline,
        Self::Specks,
        Self::Drops,
        Self::Flakes,
        Self::Net,
        Self::Dent,
        Self::Smear,
        Self::Band,
        Self::Step,
        Self::Grain,
        Self::Focus,
    ];
}

/// A shape that is darker (finer, out of focus) or brighter (coarser, noisy) than what is around it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Structure {
    pub(crate) shape: Shape,
    pub(crate) bright: bool,
    /// From 1; class 0 is a picture with no structure.
    pub(crate) class: usize,
}

impl Structure {
    /// Structures and the class of none.
    pub(crate) const CLASSES: usize = 2 * Shape::ALL.len() + 1;

    pub(crate) fn random(rng: &mut impl Rng) -> Self {
        let index = rng.random_range(0..2 * Shape::ALL.len());
        Self { shape: Shape::ALL[index / 2], bright: index % 2 == 1, class: index + 1 }
    }

    /// Draws the shape at a random place. `share` of the picture, 0..1, is what its outline takes.
    pub(crate) fn mask(&self, side: usize, share: f32, rng: &mut impl Rng) -> Mask {
        let mut mask = Mask::empty(side);
        let radius = side as f32 * (share / PI).sqrt();
        let edge = 0.12 * side as f32;
        let inside = edge..side as f32 - edge;
        let centre = (rng.random_range(inside.clone()), rng.random_range(inside));
        Brush { mask: &mut mask, centre, radius, rng }.paint(self.shape);
        mask
    }
}
