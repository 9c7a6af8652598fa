//! Local structures on textures, each shape in two polarities.

use std::f32::consts::PI;

use rand::{Rng, RngExt as _};

use crate::{brush::Brush, mask::Mask, shape::Shape};

/// A shape that is darker (finer, out of focus) or brighter (coarser, noisy) than its surroundings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Structure {
    pub(crate) shape: Shape,
    pub(crate) bright: bool,
    /// From 1; class 0 is a picture without a structure.
    pub(crate) class: usize,
}

impl Structure {
    /// Number of classes, that of no structure included.
    pub(crate) const CLASSES: usize = 2 * Shape::ALL.len() + 1;

    pub(crate) fn random(rng: &mut impl Rng) -> Self {
        let index = rng.random_range(0..2 * Shape::ALL.len());
        Self { shape: Shape::ALL[index / 2], bright: index % 2 == 1, class: index + 1 }
    }

    /// Draws the shape at a random place; its outline takes `share` of the picture, 0..1.
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

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const SIDE: usize = 64;

    fn structures() -> impl Iterator<Item = Structure> {
        let shapes = Shape::ALL.iter().enumerate();
        shapes.map(|(index, &shape)| Structure { shape, bright: false, class: 2 * index + 1 })
    }

    /// Returns the mean share of the picture that masks cover.
    fn covered(structure: Structure, share: f32) -> f32 {
        const DRAWS: u64 = 8;
        let of_draw = |seed| {
            let mask = structure.mask(SIDE, share, &mut ChaCha8Rng::seed_from_u64(seed));
            mask.coverage.iter().map(|coverage| coverage.abs()).sum::<f32>() / (SIDE * SIDE) as f32
        };
        (0..DRAWS).map(of_draw).sum::<f32>() / DRAWS as f32
    }

    #[test]
    fn compact_shapes_cover_the_requested_share() {
        let compact = [Shape::Disc, Shape::Rectangle, Shape::Stain];
        for structure in structures().filter(|structure| compact.contains(&structure.shape)) {
            for share in [0.02, 0.05, 0.1] {
                let ratio = covered(structure, share) / share;
                assert!((0.6..1.5).contains(&ratio), "{structure:?} covers {ratio} of {share}");
            }
        }
    }

    #[test]
    fn every_shape_is_visible_and_none_fills_the_picture() {
        for structure in structures() {
            let covered = covered(structure, 0.05);
            assert!((0.003..0.7).contains(&covered), "{structure:?} covers {covered}");
        }
    }

    #[test]
    fn every_shape_has_a_class_for_each_polarity() {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut seen = [None; Structure::CLASSES];
        for structure in (0..1000).map(|_| Structure::random(&mut rng)) {
            let what = (structure.shape, structure.bright);
            assert_eq!(*seen[structure.class].get_or_insert(what), what);
        }
        assert!(seen[0].is_none(), "class 0 is a picture without a structure");
        assert!(seen[1..].iter().all(Option::is_some));
    }
}
