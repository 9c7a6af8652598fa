//! A sheet of example pictures for people.

use std::path::Path;

use anyhow::Result;
use image::{Rgb, RgbImage};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use turret::image::Preprocess;

use crate::{picture::Picture, recipe::Recipe};

const SIDE: usize = 96;
const COLUMNS: usize = 24;

/// Writes a sheet with one picture of every recipe, at full difficulty.
pub(crate) fn write_sheet(file: &Path, recipes: &[Recipe]) -> Result<()> {
    let Preprocess { mean, std, .. } = Preprocess::default();
    let rows = recipes.len().div_ceil(COLUMNS);
    let mut sheet = RgbImage::new((SIDE * COLUMNS) as u32, (SIDE * rows) as u32);
    for (index, recipe) in recipes.iter().enumerate() {
        let mut rng = ChaCha8Rng::seed_from_u64(index as u64);
        let picture = Picture::draw(std::slice::from_ref(recipe), SIDE, 1.0, &mut rng);
        for (pixel, (x, y)) in (0..SIDE * SIDE).map(|pixel| (pixel, (pixel % SIDE, pixel / SIDE))) {
            let channel = |channel: usize| {
                let value = picture.pixels[channel * SIDE * SIDE + pixel];
                (255.0 * (value * std[channel] + mean[channel])) as u8
            };
            let (column, row) = (index % COLUMNS * SIDE + x, index / COLUMNS * SIDE + y);
            sheet.put_pixel(column as u32, row as u32, Rgb([0, 1, 2].map(channel)));
        }
    }
    Ok(sheet.save(file)?)
}
