//! The choice of `fine-tune` against the best of a grid: 2 feature sets times 50 L2 strengths.
//!
//! `make bench-choices` prints a Markdown table of means over the seeds. The best grid point is
//! chosen on the test pictures and biased upwards; the bar is a difference of -0.5 or better.
#![expect(clippy::print_stdout, reason = "a benchmark prints to standard output")]

mod picture_sets;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Parser;
use rayon::prelude::*;
use turret::{
    base::{BaseWeights, Device, FeatureSet, PrecisionChoice},
    config::processors,
    torch::{Network, set_cpu_threads},
    train::{Choice, ClassWeight, ConvexProblem, choose},
};

use picture_sets::{ClassFeatures, accuracy, examples, features_of, folds, surfaces, textures};

/// L2 strengths of the grid, from 1e-5 to 1e3, evenly spaced in the logarithm.
const STRENGTHS: usize = 50;

#[derive(Parser, Debug)]
struct Arguments {
    #[arg(long, value_name = "FILE", default_value = "assets/base-textures.safetensors")]
    base: PathBuf,
    /// Folder with train/<class>/ and test/<class>/ pictures
    #[arg(long, value_name = "DIR", default_value = ".bench/surfaces")]
    surfaces: PathBuf,
    /// Folder with one large photograph for each texture
    #[arg(long, value_name = "DIR", default_value = ".bench/textures")]
    textures: PathBuf,
    #[arg(long, value_name = "N", default_value_t = 5)]
    seeds: u64,
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: Device,
    /// auto, fp32, bf16, fp16 or int8
    #[arg(long, value_name = "NAME", default_value = "fp32")]
    precision: PrecisionChoice,
    /// Flag that `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

/// The choice for one training set, its accuracy, and that of each grid point, in per cent.
struct Trial {
    choice: Choice,
    automatic: f64,
    grid: Vec<f64>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    set_cpu_threads(processors());
    let mut network =
        Network::new(&BaseWeights::load(&arguments.base)?, arguments.device, arguments.precision)?;
    println!(
        "| pictures | a class | automatic | best of the grid | difference | best point | chosen features |"
    );
    println!("|---|---|---|---|---|---|---|");
    for set in [surfaces(&arguments.surfaces)?, textures(&arguments.textures)?] {
        let classes = set
            .classes
            .iter()
            .map(|class| features_of(&mut network, class))
            .collect::<Result<Vec<ClassFeatures>>>()?;
        for &size in set.sizes {
            let trials = (0..arguments.seeds)
                .into_par_iter()
                .map(|seed| trial(&classes, size, seed))
                .collect::<Result<Vec<Trial>>>()?;
            println!("| {} | {size} | {} |", set.name, cells(&trials)?);
        }
    }
    Ok(())
}

fn grid() -> impl Iterator<Item = (FeatureSet, f64)> {
    let strength = |step: usize| 10f64.powf(-5.0 + 8.0 * step as f64 / (STRENGTHS - 1) as f64);
    FeatureSet::ALL
        .into_iter()
        .flat_map(move |set| (0..STRENGTHS).map(move |step| (set, strength(step))))
}

fn trial(classes: &[ClassFeatures], size: usize, seed: u64) -> Result<Trial> {
    let sets = FeatureSet::ALL.map(|set| (set, examples(classes, set, size, seed)));
    let problem = |(set, (train, _)): &(FeatureSet, (_, _))| {
        (*set, ConvexProblem::new(train, classes.len(), ClassWeight::Balanced))
    };
    let problems: Vec<(FeatureSet, ConvexProblem)> = sets.iter().map(problem).collect();
    let choice = choose(&problems, Some(&folds(&sets[0].1.0, size)), None)
        .context("nothing to choose from")?;
    let score = |set: FeatureSet, l2: f64| {
        let pairs = problems.iter().zip(&sets).find(|((of, _), _)| *of == set);
        pairs.map_or(0.0, |((_, problem), (_, (_, test)))| {
            100.0 * accuracy(&problem.fit(l2).classifier, test)
        })
    };
    Ok(Trial {
        automatic: score(choice.features, choice.l2),
        grid: grid().map(|(set, l2)| score(set, l2)).collect(),
        choice,
    })
}

fn cells(trials: &[Trial]) -> Result<String> {
    let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / trials.len() as f64;
    let automatic = mean(&mut trials.iter().map(|trial| trial.automatic));
    let points = grid().enumerate().map(|(point, (set, l2))| {
        (mean(&mut trials.iter().map(|trial| trial.grid[point])), set, l2)
    });
    let (best, set, l2) = points.max_by(|a, b| a.0.total_cmp(&b.0)).context("the grid is empty")?;
    let pyramid =
        trials.iter().filter(|trial| trial.choice.features == FeatureSet::Pyramid).count();
    Ok(format!(
        "{automatic:.1} | {best:.1} | {:+.1} | {set}, {l2:.1e} | pyramid {pyramid} of {} |",
        automatic - best,
        trials.len()
    )
    .trim_end_matches(" |")
    .to_owned())
}
