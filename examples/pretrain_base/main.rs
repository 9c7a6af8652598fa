//! Trains a ResNet34 from nothing on pictures drawn from formulas, for a base that needs no download.
//!
//! Two things are learnt at once: which recipe a texture is of, and which local structure lies on it, if any.
//! `turret base import OUT/resnet34.safetensors` makes a base of the result.

mod brush;
mod checkpoint;
mod field;
mod loader;
mod mask;
mod network;
mod noise;
mod picture;
mod recipe;
mod schedule;
mod sheet;
mod structure;
mod tones;
mod training;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

use recipe::Recipe;
use training::{Training, TrainingOptions};

/// Trains until --images or --minutes are used up; started again with the same --out it goes on where it was.
#[derive(Parser, Debug)]
struct Arguments {
    /// Folder of the checkpoint and of resnet34.safetensors
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Pictures to train on; the same number gives the same training
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    images: u64,
    /// Train for so long instead, all starts together
    #[arg(long, value_name = "M", conflicts_with = "images")]
    minutes: Option<f64>,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Kinds of texture
    #[arg(long, value_name = "N", default_value_t = 198)]
    recipes: u32,
    /// Pictures in one step
    #[arg(long, value_name = "N", default_value_t = 48)]
    batch: usize,
    /// Highest learning rate of AdamW
    #[arg(long, value_name = "X", default_value_t = 1.5e-3)]
    learning_rate: f64,
    /// cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: turret::base::Device,
    /// Write a sheet of example pictures to this PNG file and stop
    #[arg(long, value_name = "FILE")]
    sheet: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let recipes: Vec<Recipe> =
        (0..arguments.recipes).map(|number| Recipe::draw(number, arguments.seed)).collect();
    if let Some(file) = &arguments.sheet {
        return sheet::write_sheet(file, &recipes);
    }
    let budget = match arguments.minutes {
        Some(minutes) => schedule::Budget::Time(std::time::Duration::from_secs_f64(60.0 * minutes)),
        None => schedule::Budget::Images(arguments.images),
    };
    let options = TrainingOptions {
        out: arguments.out,
        budget,
        seed: arguments.seed,
        batch: arguments.batch,
        learning_rate: arguments.learning_rate,
    };
    Training::start(options, recipes, arguments.device)?.run()
}
