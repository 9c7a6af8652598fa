//! How good the features of a base are: linear probes, trained as `fine-tune` trains a head, on pictures that no
//! pretraining here has seen.
//!
//! `make bench-features`. Prints a Markdown table: per cent of held-out pictures that are right, mean and standard
//! deviation over the seeds. A seed chooses the training pictures, those kept back for early stopping and their order.
#![expect(clippy::print_stdout, reason = "a benchmark speaks on standard output")]

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use rand::{RngExt as _, SeedableRng as _, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use turret::{
    base::{Base, BaseWeights, Device, Network, PrecisionChoice, Wanted, set_cpu_threads},
    config::processors,
    features::FeatureSet,
    image::{ImageLimits, ImageSource, Picture, PreparedImage, Preprocess, Roi, decode},
    train::{Examples, FitOptions, fit},
};

/// Of every five training pictures one is kept back for early stopping, as `fine-tune` does.
const KEPT_BACK: usize = 5;
const BATCH_IMAGES: usize = 16;

#[derive(Parser, Debug)]
struct Arguments {
    /// Base files to compare, a column each
    #[arg(long = "base", value_name = "FILE", required = true)]
    bases: Vec<PathBuf>,
    /// Folder with train/<class>/ and test/<class>/ pictures
    #[arg(long, value_name = "DIR", default_value = ".bench/surfaces")]
    surfaces: PathBuf,
    /// Folder with one large photograph for each texture
    #[arg(long, value_name = "DIR", default_value = ".bench/textures")]
    textures: PathBuf,
    #[arg(long, value_name = "N", default_value_t = 10)]
    seeds: u64,
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: Device,
    /// auto, fp32, bf16, fp16 or int8
    #[arg(long, value_name = "NAME", default_value = "fp32")]
    precision: PrecisionChoice,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

/// Pictures of one class, ready for the base.
#[derive(Debug, Default)]
struct ClassPictures {
    train: Vec<PreparedImage>,
    test: Vec<PreparedImage>,
}

/// A question to put to every base.
#[derive(Debug)]
struct PictureSet {
    name: &'static str,
    classes: Vec<ClassPictures>,
    /// Training pictures of each class, one line of the table each.
    sizes: &'static [usize],
}

/// Features of a class's pictures.
#[derive(Debug)]
struct ClassFeatures {
    train: Vec<PictureFeatures>,
    test: Vec<PictureFeatures>,
}

#[derive(Debug)]
struct PictureFeatures {
    gap: Vec<f32>,
    pyramid: Vec<f32>,
}

impl PictureFeatures {
    fn of(&self, set: FeatureSet) -> &[f32] {
        match set {
            FeatureSet::Gap => &self.gap,
            FeatureSet::Pyramid => &self.pyramid,
        }
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    set_cpu_threads(processors());
    let sets = [surfaces(&arguments.surfaces)?, textures(&arguments.textures)?];
    let (mut names, mut networks) = (Vec::new(), Vec::new());
    for path in &arguments.bases {
        names.push(path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
        networks.push(Network::new(&BaseWeights::load(path)?, arguments.device, arguments.precision)?);
    }
    println!("| pictures | a class | features |{}", table_cells(&names));
    println!("|---|---|---|{}", "---|".repeat(names.len()));
    for set in &sets {
        let features = networks
            .iter_mut()
            .map(|network| set.classes.iter().map(|class| features_of(network, class)).collect())
            .collect::<Result<Vec<Vec<ClassFeatures>>>>()?;
        for wanted in FeatureSet::ALL {
            for &size in set.sizes {
                let scores: Vec<String> =
                    features.iter().map(|classes| score(classes, wanted, size, arguments.seeds)).collect();
                println!("| {} | {size} | {wanted} |{}", set.name, table_cells(&scores));
            }
        }
    }
    Ok(())
}

fn table_cells(cells: &[String]) -> String {
    cells.iter().map(|cell| format!(" {cell} |")).collect()
}

/// The demo's classes; see `examples/surfaces`.
fn surfaces(folder: &Path) -> Result<PictureSet> {
    let all = |half: &str, class: &Path| -> Result<Vec<PreparedImage>> {
        let folder = folder.join(half).join(class);
        entries(&folder)?.iter().map(|path| prepare(&picture(path)?, None)).collect()
    };
    let classes = entries(&folder.join("train"))?
        .iter()
        .map(|path| {
            let class = Path::new(path.file_name().context("a class has a name")?);
            Ok(ClassPictures { train: all("train", class)?, test: all("test", class)? })
        })
        .collect::<Result<_>>()?;
    Ok(PictureSet { name: "demo surfaces", classes, sizes: &[5, 20, 100] })
}

/// Crops at random places, for training from the left of each photograph, for testing from the right.
fn textures(folder: &Path) -> Result<PictureSet> {
    const CROP: u32 = 96;
    const TRAIN: usize = 80;
    const TEST: usize = 60;
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let mut crops = |picture: &Picture, left: u32, right: u32, count: usize| {
        let mut crop = || {
            let (x, y) =
                (random.random_range(left..=right - CROP), random.random_range(0..=picture.height - CROP));
            prepare(picture, Some(Roi { x, y, width: CROP, height: CROP }))
        };
        (0..count).map(|_| crop()).collect::<Result<Vec<_>>>()
    };
    let classes = entries(folder)?
        .iter()
        .map(|path| {
            let photograph = picture(path)?;
            let (width, middle) = (photograph.width, photograph.width / 2);
            ensure!(middle >= CROP && photograph.height >= CROP, "{} is too small", path.display());
            let train = crops(&photograph, 0, middle, TRAIN)?;
            Ok(ClassPictures { train, test: crops(&photograph, middle, width, TEST)? })
        })
        .collect::<Result<_>>()?;
    Ok(PictureSet { name: "real textures", classes, sizes: &[5, 20, 60] })
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = fs_err::read_dir(folder)
        .context("run this with `make bench-features`, which makes the pictures")?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn picture(path: &Path) -> Result<Picture> {
    decode(&ImageSource::Encoded(fs_err::read(path)?.into()), &ImageLimits::default())
        .with_context(|| path.display().to_string())
}

fn prepare(picture: &Picture, region: Option<Roi>) -> Result<PreparedImage> {
    Ok(Preprocess::default().apply(picture, region)?)
}

fn features_of(network: &mut Network, class: &ClassPictures) -> Result<ClassFeatures> {
    let widths = network.widths();
    let mut features = |pictures: &[PreparedImage]| {
        let mut all = Vec::new();
        for batch in pictures.chunks(BATCH_IMAGES) {
            let batch: Vec<&PreparedImage> = batch.iter().collect();
            let features = network.forward(&batch, Wanted { pyramid: true, map: false })?;
            for picture in 0..batch.len() {
                let row = |set| features.row(set, picture, widths).map(<[f32]>::to_vec);
                let (gap, pyramid) =
                    row(FeatureSet::Gap).zip(row(FeatureSet::Pyramid)).context("features")?;
                all.push(PictureFeatures { gap, pyramid });
            }
        }
        Ok::<_, anyhow::Error>(all)
    };
    Ok(ClassFeatures { train: features(&class.train)?, test: features(&class.test)? })
}

/// `mean ± standard deviation` in per cent.
fn score(classes: &[ClassFeatures], set: FeatureSet, size: usize, seeds: u64) -> String {
    let accuracies: Vec<f64> =
        (0..seeds).into_par_iter().map(|seed| 100.0 * accuracy(classes, set, size, seed)).collect();
    let mean = accuracies.iter().sum::<f64>() / accuracies.len() as f64;
    let variance = accuracies.iter().map(|accuracy| (accuracy - mean).powi(2)).sum::<f64>();
    format!("{mean:.1} ± {:.1}", (variance / (accuracies.len() as f64 - 1.0).max(1.0)).sqrt())
}

fn accuracy(classes: &[ClassFeatures], set: FeatureSet, size: usize, seed: u64) -> f64 {
    let width =
        classes.iter().flat_map(|class| &class.test).map(|picture| picture.of(set).len()).next().unwrap_or(0);
    let empty = Examples { width, ..Examples::default() };
    let (mut train, mut validation, mut test) = (empty.clone(), empty.clone(), empty);
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for (label, class) in classes.iter().enumerate() {
        let mut chosen: Vec<&PictureFeatures> = class.train.iter().collect();
        chosen.shuffle(&mut random);
        for (index, picture) in chosen.into_iter().take(size).enumerate() {
            let half = if index % KEPT_BACK == 0 { &mut validation } else { &mut train };
            half.push(picture.of(set), label);
        }
        class.test.iter().for_each(|picture| test.push(picture.of(set), label));
    }
    let options = FitOptions { seed, ..FitOptions::default() };
    let Some(fitted) = fit(&train, &validation, classes.len(), &options, &mut |_| {}) else { return 0.0 };
    let logits = |features: &[f32]| -> Vec<f32> {
        let rows = fitted.weight.chunks_exact(width).zip(&fitted.bias);
        rows.map(|(row, bias)| bias + row.iter().zip(features).map(|(w, x)| w * x).sum::<f32>()).collect()
    };
    let right = test.rows().filter(|(features, label)| {
        let logits = logits(features);
        logits.iter().all(|other| *other <= logits[*label])
    });
    right.count() as f64 / test.classes.len() as f64
}
