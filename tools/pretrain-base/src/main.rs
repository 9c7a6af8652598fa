//! Trains a ResNet34 from scratch on pictures drawn from formulas: a base without a download.
//!
//! It learns two tasks at once: a texture's recipe, and the local structure on it, if any.
//! `turret base import OUT/resnet34.safetensors` makes a base of the result.

mod adamw;
mod brush;
mod checkpoint;
mod field;
mod loader;
mod mask;
mod network;
mod noise;
mod picture;
mod precision;
mod recipe;
mod schedule;
mod shape;
mod sheet;
mod structure;
mod tones;
mod training;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

use checkpoint::Settings;
use precision::Precision;
use recipe::Recipe;
use training::Training;

/// Trains on --images pictures; resumes if --out holds an unfinished training.
#[derive(Parser, Debug)]
struct Arguments {
    /// Folder for the checkpoint and resnet34.safetensors
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Pictures to train on
    #[arg(long, value_name = "N", default_value_t = 110_000)]
    images: u64,
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Number of texture recipes
    #[arg(long, value_name = "N", default_value_t = 198)]
    recipes: u32,
    /// Pictures in a step
    #[arg(long, value_name = "N", default_value_t = 48)]
    batch: usize,
    /// Highest learning rate of AdamW
    #[arg(long, value_name = "X", default_value_t = 1.5e-3)]
    learning_rate: f64,
    /// Precision of the convolutions
    #[arg(long, value_name = "PRECISION", value_enum, default_value_t = Precision::Auto)]
    precision: Precision,
    /// cpu or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: turret::base::Device,
    /// Write a sheet of example pictures to this PNG file and stop
    #[arg(long, value_name = "FILE")]
    sheet: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(file) = &arguments.sheet {
        return sheet::write_sheet(file, &Recipe::draw_all(arguments.recipes, arguments.seed));
    }
    let device = tch::Device::from(arguments.device.resolve()?);
    let settings = Settings {
        images: arguments.images,
        seed: arguments.seed,
        recipes: arguments.recipes,
        batch: arguments.batch,
        learning_rate: arguments.learning_rate,
        precision: arguments.precision.resolve(device),
    };
    Training::start(settings, arguments.out, device)?.run()
}
