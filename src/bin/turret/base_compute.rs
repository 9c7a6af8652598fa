//! `turret base calibrate` and `turret base features`, the subcommands that run a base.

use std::path::{Path, PathBuf};

use anyhow::Context;
use indicatif::ProgressBar;
use turret::{
    base::{Base, BaseWeights, Device, FeatureSet, Outputs, PrecisionChoice},
    config::processors,
    image::{ImageLimits, ImageSource, PreparedImage, Preprocess, decode},
    torch::{Network, calibrate, set_cpu_threads},
};
use turret_client::cli::printing::{escaped, print, print_to_stderr};

use crate::base::announce;

pub(crate) fn calibrate_base(
    input: &Path,
    folder: &Path,
    output: &Path,
    preprocess: &Preprocess,
    most: usize,
) -> anyhow::Result<()> {
    set_cpu_threads(processors());
    let weights = BaseWeights::load(input)?;
    let mut paths: Vec<PathBuf> = walkdir::WalkDir::new(folder)
        .sort_by_file_name()
        .into_iter()
        .filter_map(|entry| {
            entry.map(|entry| entry.file_type().is_file().then(|| entry.into_path())).transpose()
        })
        .collect::<Result<_, _>>()?;
    let step = paths.len().div_ceil(most.max(1)).max(1);
    paths = paths.into_iter().step_by(step).collect();
    let mut pictures = Vec::with_capacity(paths.len());
    for path in &paths {
        match load_picture(path, preprocess) {
            Ok(prepared) => pictures.push(prepared),
            Err(error) => {
                let warning = format!("warning: skipped a picture: {error:#}");
                print_to_stderr(escaped(&warning));
            }
        }
    }
    let bar = ProgressBar::no_length();
    let (ranges, errors) = calibrate(&weights, &pictures, &mut |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    })
    .with_context(|| {
        format!("cannot calibrate with {} pictures from {}", pictures.len(), folder.display())
    })?;
    bar.finish_and_clear();
    for error in errors {
        let chosen = if error.percentile == ranges.percentile { "  <- chosen" } else { "" };
        print(format_args!(
            "percentile {:7}: int8 features are {:.2} % off{chosen}",
            error.percentile,
            100.0 * error.error
        ))?;
    }
    BaseWeights::save_with_ranges(input, &ranges, output)?;
    Ok(announce(&weights, output)?)
}

fn load_picture(path: &Path, preprocess: &Preprocess) -> anyhow::Result<PreparedImage> {
    let bytes = fs_err::read(path)?;
    let picture = decode(&ImageSource::Encoded(bytes.into()), &ImageLimits::default());
    picture
        .and_then(|picture| preprocess.apply(&picture, None))
        .with_context(|| path.display().to_string())
}

pub(crate) fn features(
    images: &[PathBuf],
    base: &Path,
    preprocess: &Preprocess,
    device: Device,
    precision: PrecisionChoice,
    dump: Option<&Path>,
) -> anyhow::Result<()> {
    set_cpu_threads(processors());
    if let Some(folder) = dump {
        fs_err::create_dir_all(folder)?;
    }
    let mut base = Network::new(&BaseWeights::load(base)?, device, precision)?;
    let widths = base.widths();
    for path in images {
        let prepared = load_picture(path, preprocess)?;
        if let Some(folder) = dump {
            dump_pixels(folder, path, &prepared)?;
        }
        let batch = base.forward(&[&prepared], Outputs { pyramid: true, map: false })?;
        let row = |set| batch.row(set, 0, widths).unwrap_or_default();
        let (gap, pyramid) = (row(FeatureSet::Gap), row(FeatureSet::Pyramid));
        // JSON has no bytes: whatever is not UTF-8 in a name is replaced.
        let path = path.to_string_lossy();
        print(serde_json::json!({ "path": path, "gap": gap, "pyramid": pyramid }))?;
    }
    Ok(())
}

fn dump_pixels(folder: &Path, picture: &Path, prepared: &PreparedImage) -> anyhow::Result<()> {
    let name = picture.file_stem().context("picture path has no file name")?;
    let path = folder.join(name).with_extension("png");
    let side = prepared.side;
    image::save_buffer(&path, &prepared.pixels, side, side, image::ExtendedColorType::Rgb8)
        .with_context(|| path.display().to_string())
}
