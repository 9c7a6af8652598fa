//! `turret base`: prepares and inspects base files.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    str::FromStr,
};

use anyhow::Context;
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
#[cfg(feature = "torch")]
use turret::image::Preprocess;
use turret::{
    base::{
        Architecture, BaseWeights, BatchNormStatistics, Device, PrecisionChoice, WeightsError,
        fetch::{Fetch, KnownWeights, Progress},
    },
    image::Resize,
};
use turret_client::cli::printing::{WriteError, escaped, print};

#[cfg(feature = "torch")]
use crate::base_compute;

#[derive(Debug, Subcommand)]
pub(crate) enum BaseCommand {
    /// Import a torchvision .pth or a .safetensors checkpoint (also timm's); nothing in it is
    /// executed
    Import {
        /// Checkpoint to read
        #[arg(value_name = "IN")]
        input: PathBuf,
        /// Where the network is among several: the start of its tensors' names, such as encoder_q.
        #[arg(long, value_name = "NAME")]
        prefix: Option<String>,
        /// Base file to write; never overwritten
        #[arg(short, long, value_name = "OUT", default_value = "base.safetensors")]
        output: PathBuf,
    },
    /// Download torchvision's official weights, verify their digest and import them
    Fetch {
        /// Weights to fetch: resnet34-imagenet1k-v1, resnet18-imagenet1k-v1 or vgg16-imagenet1k-v1
        #[arg(value_name = "NAME")]
        name: String,
        /// Base file to write; never overwritten
        #[arg(short, long, value_name = "OUT", default_value = "base.safetensors")]
        output: PathBuf,
        /// Folder that keeps the downloaded file
        #[arg(long, value_name = "DIR", default_value = ".", env = "TURRET_DOWNLOADS")]
        directory: PathBuf,
        /// Another URL of the file, such as a mirror inside a factory
        #[arg(long, value_name = "URL", env = "TURRET_WEIGHTS_URL")]
        url: Option<String>,
    },
    /// Round the convolutions of a base to 8 bits: a quarter of the size, slightly different
    /// features, a new digest
    Compress {
        /// Base file to read
        #[arg(value_name = "IN")]
        input: PathBuf,
        /// Base file to write; never overwritten
        #[arg(short, long, value_name = "OUT")]
        output: PathBuf,
    },
    /// Measure on pictures the ranges that int8 needs; weights and digest stay the same, so heads
    /// still fit
    Calibrate {
        /// Base file to read
        #[arg(value_name = "BASE")]
        input: PathBuf,
        /// Folder of a few hundred pictures like those to be classified, searched recursively
        #[arg(long, value_name = "DIR")]
        images: PathBuf,
        /// Base file to write; never overwritten
        #[arg(short, long, value_name = "OUT")]
        output: PathBuf,
        /// How pictures are resized: letterbox, centre_crop or stretch
        #[arg(long, value_name = "NAME", default_value = "letterbox")]
        preprocess: Resize,
        /// Maximum number of pictures, evenly spread over the folder
        #[arg(
            long,
            value_name = "N",
            default_value_t = 256,
            value_parser = parse_number::<usize>,
            allow_negative_numbers = true
        )]
        most: usize,
    },
    /// Make a base with random weights, without a network; not for real work
    Random {
        /// resnet18, resnet34 or vgg16
        #[arg(value_name = "ARCHITECTURE")]
        architecture: Architecture,
        /// Seed of the random numbers
        #[arg(
            long,
            value_name = "N",
            default_value_t = 0,
            value_parser = parse_number::<u64>,
            allow_negative_numbers = true
        )]
        seed: u64,
        /// Base file to write; never overwritten
        #[arg(short, long, value_name = "OUT", default_value = "base.safetensors")]
        output: PathBuf,
        /// Also randomize the BatchNorm statistics, for tests
        #[arg(long)]
        random_statistics: bool,
    },
    /// Check a base file and show what it contains
    Inspect {
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[arg(long)]
        json: bool,
    },
    /// Print the features of pictures, one JSON line each
    Features {
        #[arg(value_name = "IMAGE", required = true)]
        images: Vec<PathBuf>,
        #[arg(long, value_name = "FILE", env = "TURRET_BASE")]
        base: PathBuf,
        /// How pictures are resized: letterbox, centre_crop or stretch
        #[arg(long, value_name = "NAME", default_value = "letterbox")]
        preprocess: Resize,
        #[arg(long, value_name = "DEVICE", default_value = "auto", env = "TURRET_DEVICE")]
        device: Device,
        /// auto, fp32, bf16, fp16 or int8
        #[arg(long, value_name = "NAME", default_value = "fp32", env = "TURRET_PRECISION")]
        precision: PrecisionChoice,
        /// Also write the pixels that the base reads, as PNG files named after the pictures, into
        /// this folder; it is created if missing
        #[arg(long, value_name = "DIR")]
        dump_pixels: Option<PathBuf>,
        /// Accepted for scripts; the output is always JSON
        #[arg(long, hide = true)]
        json: bool,
    },
}

pub(crate) fn run(command: BaseCommand) -> anyhow::Result<ExitCode> {
    match command {
        BaseCommand::Import { input, prefix, output } => {
            write(&BaseWeights::import_under(&input, prefix.as_deref())?, &output)?;
        }
        BaseCommand::Fetch { name, output, directory, url } => {
            fetch(&name, &output, &directory, url)?
        }
        BaseCommand::Compress { input, output } => {
            let compressed = BaseWeights::load(&input)?.compressed();
            compressed.save(&output)?;
            announce(compressed.expanded(), &output)?;
        }
        #[cfg(feature = "torch")]
        BaseCommand::Calibrate { input, images, output, preprocess, most } => {
            refuse_existing(&output)?;
            let preprocess = Preprocess { resize: preprocess, ..Preprocess::default() };
            base_compute::calibrate_base(&input, &images, &output, &preprocess, most)?;
        }
        BaseCommand::Random { architecture, seed, output, random_statistics } => {
            let statistics = if random_statistics {
                BatchNormStatistics::Random
            } else {
                BatchNormStatistics::Identity
            };
            write(&BaseWeights::random(architecture, seed, statistics), &output)?;
        }
        BaseCommand::Inspect { file, json } => inspect(&file, json)?,
        #[cfg(feature = "torch")]
        BaseCommand::Features {
            images,
            base,
            preprocess,
            device,
            precision,
            dump_pixels,
            json: _,
        } => {
            let preprocess = Preprocess { resize: preprocess, ..Preprocess::default() };
            base_compute::features(
                &images,
                &base,
                &preprocess,
                device,
                precision,
                dump_pixels.as_deref(),
            )?;
        }
        #[cfg(not(feature = "torch"))]
        BaseCommand::Calibrate { .. } | BaseCommand::Features { .. } => {
            return Err(turret::base::BuiltWithoutLibtorch.into());
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write(weights: &BaseWeights, output: &Path) -> anyhow::Result<()> {
    weights.save(output)?;
    Ok(announce(weights, output)?)
}

/// Prints the name and identity of a base file that was written.
pub(crate) fn announce(weights: &BaseWeights, output: &Path) -> Result<(), WriteError> {
    let identity = weights.identity();
    let (file, origin) = (output.display().to_string(), weights.origin());
    let line = format!("{file}: {} {}, {origin}", identity.architecture, identity.digest);
    print(escaped(&line))
}

/// Refuses before any work what [`BaseWeights::save`] would refuse after it.
fn refuse_existing(output: &Path) -> Result<(), WeightsError> {
    if output.exists() {
        return Err(WeightsError::Exists { path: output.to_owned() });
    }
    Ok(())
}

fn parse_number<T: FromStr>(text: &str) -> Result<T, &'static str> {
    text.parse().map_err(|_| "expected a whole number of 0 or more, such as 42")
}

fn fetch(name: &str, output: &Path, directory: &Path, url: Option<String>) -> anyhow::Result<()> {
    let weights = KnownWeights::named(name)?;
    refuse_existing(output)?;
    let bar = ProgressBar::no_length().with_style(
        ProgressStyle::with_template("{msg} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left")
            .context("progress bar")?,
    );
    bar.set_message(weights.file);
    let file = Fetch { weights, url_override: url, directory }.fetch(
        &mut |Progress { received, total }| {
            if let Some(total) = total {
                bar.set_length(total);
            }
            bar.set_position(received);
        },
    )?;
    bar.finish_and_clear();
    write(&BaseWeights::import(&file)?, output)
}

fn inspect(file: &Path, json: bool) -> anyhow::Result<()> {
    let weights = BaseWeights::load(file)?;
    let identity = weights.identity();
    let widths = weights.architecture().widths();
    let parameters: usize = weights
        .architecture()
        .parameters()
        .iter()
        .map(|(_, shape)| shape.iter().product::<usize>())
        .sum();
    if json {
        print(serde_json::json!({
            "architecture": identity.architecture, "digest": identity.digest,
            "origin": weights.origin(), "numbers": parameters,
            "gap": widths.gap, "pyramid": widths.pyramid,
            "calibrated": weights.activation_ranges().is_some(),
        }))?;
        return Ok(());
    }
    print(format_args!("architecture  {}", identity.architecture))?;
    print(format_args!("digest        {}", identity.digest))?;
    print(format_args!("origin        {}", escaped(weights.origin())))?;
    print(format_args!("parameters    {parameters}, all finite"))?;
    print(format_args!("features      gap {}, pyramid {}", widths.gap, widths.pyramid))?;
    match weights.activation_ranges() {
        Some(ranges) => {
            print(format_args!("int8          calibrated on {} pictures", ranges.images))
        }
        None => print("int8          not calibrated: run `turret base calibrate`"),
    }?;
    Ok(())
}
