//! Training pictures: a texture, a structure on it, light, camera and colour.

use rand::{Rng, RngExt as _};

use crate::{
    mask::Mask,
    noise::{log_uniform, mix},
    recipe::Recipe,
    structure::Structure,
    tones::Tones,
};

/// Side of the cells in which structures are located, in pixels: the stride of layer3.
pub(crate) const CELL: usize = 16;
/// Share of pictures without a structure.
const EMPTY_SHARE: f64 = 0.15;

/// A picture and its labels.
#[derive(Debug)]
pub(crate) struct Picture {
    /// `[3, side, side]`, normalised.
    pub(crate) pixels: Vec<f32>,
    pub(crate) recipe: usize,
    /// Class of the structure on it, 0 if there is none.
    pub(crate) structure: usize,
    /// `[side / CELL, side / CELL]`: the class of the structure where it is visible, elsewhere 0.
    pub(crate) cells: Vec<usize>,
}

impl Picture {
    /// Draws a picture of a difficulty from 0 (large, strong structures, clear textures) to 1.
    pub(crate) fn draw(
        recipes: &[Recipe],
        side: usize,
        difficulty: f32,
        rng: &mut impl Rng,
    ) -> Self {
        let recipe = rng.random_range(0..recipes.len());
        let structure = (!rng.random_bool(EMPTY_SHARE)).then(|| Structure::random(rng));
        let mut tones = Tones::of_texture(&recipes[recipe], side, rng);
        let mask = match structure {
            Some(structure) => {
                let share = log_uniform(rng, mix(0.06, 0.01, difficulty), 0.3);
                let mask = structure.mask(side, share, rng);
                let strength = log_uniform(rng, mix(2.5, 0.9, difficulty), 4.0);
                let calm = if rng.random() {
                    log_uniform(rng, mix(1.0, 0.15, difficulty), 1.0)
                } else {
                    1.0
                };
                tones.add(structure, &mask, strength, calm, rng);
                mask
            }
            None => Mask::empty(side),
        };
        let class = structure.map_or(0, |structure| structure.class);
        let cells =
            mask.seen_in_cells(CELL).into_iter().map(|seen| if seen { class } else { 0 }).collect();
        tones.light(difficulty, rng);
        tones.photograph(difficulty, rng);
        Self {
            pixels: tones.coloured(&recipes[recipe].colours, rng),
            recipe,
            structure: class,
            cells,
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const SIDE: usize = 32;

    fn pictures(count: u64, difficulty: f32) -> Vec<Picture> {
        let recipes = Recipe::draw_all(4, 0);
        let draw =
            |seed| Picture::draw(&recipes, SIDE, difficulty, &mut ChaCha8Rng::seed_from_u64(seed));
        (0..count).map(draw).collect()
    }

    #[test]
    fn draws_of_a_recipe_differ() {
        let recipe = [Recipe::draw(0, 0)];
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let [one, other] = [0; 2].map(|_| Picture::draw(&recipe, SIDE, 0.5, &mut rng));
        assert_eq!((one.recipe, other.recipe), (0, 0));
        assert_ne!(one.pixels, other.pixels);
    }

    #[test]
    fn cells_hold_the_pictures_structure_or_zero() {
        for picture in pictures(20, 0.0) {
            assert_eq!(picture.pixels.len(), 3 * SIDE * SIDE);
            assert_eq!(picture.cells.len(), (SIDE / CELL).pow(2));
            assert!(picture.cells.iter().all(|&cell| cell == 0 || cell == picture.structure));
        }
    }

    #[test]
    fn difficulty_shrinks_structures_and_lowers_contrast() {
        let (easy, hard) = (pictures(60, 0.0), pictures(60, 1.0));
        let seen = |pictures: &[Picture]| {
            pictures.iter().flat_map(|picture| &picture.cells).filter(|&&cell| cell != 0).count()
        };
        assert!(seen(&hard) < seen(&easy), "{} {}", seen(&hard), seen(&easy));
        let contrast = |pictures: &[Picture]| {
            let deviation = |picture: &Picture| {
                let green = &picture.pixels[SIDE * SIDE..2 * SIDE * SIDE];
                let mean = green.iter().sum::<f32>() / green.len() as f32;
                (green.iter().map(|pixel| (pixel - mean).powi(2)).sum::<f32>() / green.len() as f32)
                    .sqrt()
            };
            pictures.iter().map(deviation).sum::<f32>()
        };
        assert!(contrast(&hard) < 0.8 * contrast(&easy), "{} {}", contrast(&hard), contrast(&easy));
    }
}
