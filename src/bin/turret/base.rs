//! `turret base`: prepares and inspects base files.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};
#[cfg(feature = "torch")]
use turret::image::Preprocess;
use turret::{
    base::{
        Architecture, BaseWeights, BatchNormStatistics, Device, PrecisionChoice,
        fetch::{Fetch, KnownWeights, Progress},
    },
    image::Resize,
};

#[cfg(feature = "torch")]
use crate::base_compute;
use crate::output::announce;

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
        #[arg(long, value_name = "N", default_value_t = 256)]
        most: usize,
    },
    /// Make a base with random weights, without a network; not for real work
    Random {
        /// resnet18, resnet34 or vgg16
        #[arg(value_name = "ARCHITECTURE")]
        architecture: Architecture,
        #[arg(long, value_name = "N", default_value_t = 0)]
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
        /// Also write the pixels that the base reads, as PNG files named after the pictures
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
            announce(compressed.expanded(), &output);
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
    announce(weights, output);
    Ok(())
}

fn refuse_existing(output: &Path) -> anyhow::Result<()> {
    if output.exists() {
        bail!(
            "{} exists; a base is never overwritten: name another file or remove it",
            output.display()
        );
    }
    Ok(())
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
        println!(
            "{}",
            serde_json::json!({
                "architecture": identity.architecture, "digest": identity.digest,
                "origin": weights.origin(), "numbers": parameters,
                "gap": widths.gap, "pyramid": widths.pyramid,
                "calibrated": weights.activation_ranges().is_some(),
            })
        );
    } else {
        println!("architecture  {}", identity.architecture);
        println!("digest        {}", identity.digest);
        println!("origin        {}", weights.origin());
        println!("parameters    {parameters}, all finite");
        println!("features      gap {}, pyramid {}", widths.gap, widths.pyramid);
        match weights.activation_ranges() {
            Some(ranges) => println!("int8          calibrated on {} pictures", ranges.images),
            None => {
                println!("int8          not calibrated: run `turret base calibrate`")
            }
        }
    }
    Ok(())
}
