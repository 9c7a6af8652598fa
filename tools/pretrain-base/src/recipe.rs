//! Texture recipes: formulas drawn from a seed, each defining one class.
//!
//! A picture of a class is a new draw of its formula (formula-driven supervised learning: Kataoka
//! et al., "Pre-training without natural images", 2020).

use std::f32::consts::PI;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::{
    field::Field,
    noise::{Noise, log_uniform, mix, smoothstep},
};

/// Combination of a recipe's fields.
#[derive(Clone, Copy, Debug)]
enum Blend {
    Sum,
    Product,
    /// The last field selects the first or the second at each place.
    Choice,
}

#[derive(Debug)]
struct Part {
    field: Field,
    /// Cosine and sine of the direction relative to the recipe's.
    direction: (f32, f32),
    weight: f32,
}

/// The formula of one class.
#[derive(Debug)]
pub(crate) struct Recipe {
    parts: Vec<Part>,
    blend: Blend,
    /// Wavelength and strength of the warp, in pixels.
    warp: Option<(f32, f32)>,
    /// Colours (red, green, blue in 0..1) of the darkest and the brightest places, before lighting.
    pub(crate) colours: [[f32; 3]; 2],
}

impl Recipe {
    pub(crate) fn draw_all(count: u32, seed: u64) -> Vec<Self> {
        (0..count).map(|number| Self::draw(number, seed)).collect()
    }

    /// Draws recipe `number` of a seed, independent of the number of recipes.
    pub(crate) fn draw(number: u32, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x7E47_0000);
        rng.set_stream(u64::from(number));
        let rng = &mut rng;
        let count: u32 = rng.random_range(1..4);
        // Kinds take turns, so that each is the first field of equally many recipes.
        let parts: Vec<Part> = (0..count)
            .map(|index| {
                let kind = if index == 0 { number } else { rng.random_range(0..Field::KINDS) };
                let angle: f32 = rng.random_range(0.0..PI);
                let weight = if index == 0 { 1.0 } else { rng.random_range(0.3..0.9) };
                Part {
                    field: Field::draw(kind % Field::KINDS, rng),
                    direction: (angle.cos(), angle.sin()),
                    weight,
                }
            })
            .collect();
        let blend = match rng.random_range(0..4) {
            0 => Blend::Product,
            1 if count == 3 => Blend::Choice,
            _ => Blend::Sum,
        };
        let warp =
            rng.random_bool(0.3).then(|| (log_uniform(rng, 8.0, 50.0), log_uniform(rng, 1.0, 8.0)));
        let hue = [0; 3].map(|_| rng.random_range(-0.5..0.5f32));
        let other = hue.map(|channel| -0.5 * channel + rng.random_range(-0.3..0.3));
        Self { parts, blend, warp, colours: [other, hue] }
    }

    /// Returns the tone at a place of one draw of the recipe, in no fixed range.
    pub(crate) fn tone(&self, noise: Noise, x: f32, y: f32) -> f32 {
        let (mut x, mut y) = (x, y);
        if let Some((wavelength, strength)) = self.warp {
            let bend = noise.other(100);
            let (u, v) = (x / wavelength, y / wavelength);
            x += strength * bend.gradient(u, v);
            y += strength * bend.gradient(u + 57.3, v + 11.9);
        }
        let value = |(index, part): (usize, &Part)| {
            let (cos, sin) = part.direction;
            part.weight
                * part.field.at(
                    noise.other(1000 * (index as u32 + 1)),
                    x * cos + y * sin,
                    y * cos - x * sin,
                )
        };
        let mut values = self.parts.iter().enumerate().map(value);
        match self.blend {
            Blend::Sum => values.sum(),
            Blend::Product => values.fold(1.0, |product, value| product * (1.0 + value)),
            Blend::Choice => {
                let mut next = || values.next().unwrap_or_default();
                let (first, second, choice) = (next(), next(), next());
                mix(second, first, smoothstep(-0.1, 0.1, choice))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipe_depends_only_on_number_and_seed() {
        let formula = |recipe: &Recipe| format!("{recipe:?}");
        let recipes = Recipe::draw_all(12, 7);
        assert_eq!(formula(&recipes[5]), formula(&Recipe::draw(5, 7)));
        assert_ne!(formula(&recipes[5]), formula(&Recipe::draw(5, 8)));
        assert_ne!(
            formula(&recipes[0]),
            formula(&recipes[Field::KINDS as usize]),
            "the first fields are of the same kind"
        );
    }

    #[test]
    fn every_recipe_gives_finite_varying_tones() {
        for recipe in Recipe::draw_all(3 * Field::KINDS, 0) {
            let tones: Vec<f32> = (0..400)
                .map(|i| {
                    recipe.tone(
                        Noise::random(&mut ChaCha8Rng::seed_from_u64(1)),
                        3.1 * i as f32,
                        1.7 * i as f32,
                    )
                })
                .collect();
            assert!(tones.iter().all(|tone| tone.is_finite()), "{recipe:?}");
            assert!(tones.iter().any(|tone| (tone - tones[0]).abs() > 0.05), "{recipe:?}");
        }
    }
}
