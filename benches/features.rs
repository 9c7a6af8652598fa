//! Quality of a base's features, by linear probes on pictures that no pretraining here has seen.
//!
//! The probes are trained as `fine-tune` trains a head.
//! `make bench-features` prints a Markdown table of the accuracy on held-out pictures in per cent,
//! mean and standard deviation over the seeds. A seed chooses the training pictures.
#![expect(clippy::print_stdout, reason = "a benchmark prints to standard output")]

mod picture_sets;

use std::{path::PathBuf, str::FromStr};

use anyhow::Result;
use clap::Parser;
use rayon::prelude::*;
use turret::{
    base::{BaseWeights, Device, FeatureSet, Precision, PrecisionChoice},
    config::processors,
    error::ParseNameError,
    torch::{Network, set_cpu_threads},
    train::{ClassWeight, ConvexProblem, choose},
};

use picture_sets::{ClassFeatures, examples, features_of, folds, surfaces, textures};

#[derive(Parser, Debug)]
struct Arguments {
    /// Base files to compare, a column each, in fp32 unless a precision is named
    #[arg(long = "base", value_name = "FILE[@PRECISION]", required = true)]
    columns: Vec<Column>,
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
    /// Flag that `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

/// A base in a precision.
#[derive(Debug, Clone)]
struct Column {
    base: PathBuf,
    precision: PrecisionChoice,
}

impl FromStr for Column {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (base, precision) = text.rsplit_once('@').unwrap_or((text, Precision::Fp32.name()));
        Ok(Self { base: base.into(), precision: precision.parse()? })
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    set_cpu_threads(processors());
    let sets = [surfaces(&arguments.surfaces)?, textures(&arguments.textures)?];
    let (mut names, mut networks) = (Vec::new(), Vec::new());
    for Column { base, precision } in &arguments.columns {
        let network = Network::new(&BaseWeights::load(base)?, arguments.device, *precision)?;
        let name = base.file_stem().unwrap_or_default().to_string_lossy();
        names.push(format!("{name} {}", network.precision()));
        networks.push(network);
    }
    println!("| pictures | a class | features |{}", table_cells(&names));
    println!("|---|---|---|{}", "---|".repeat(names.len()));
    for set in &sets {
        let features = networks
            .iter_mut()
            .map(|network| set.classes.iter().map(|class| features_of(network, class)).collect())
            .collect::<Result<Vec<Vec<ClassFeatures>>>>()?;
        for feature_set in FeatureSet::ALL {
            for &size in set.sizes {
                let scores: Vec<String> = features
                    .iter()
                    .map(|classes| score(classes, feature_set, size, arguments.seeds))
                    .collect();
                println!("| {} | {size} | {feature_set} |{}", set.name, table_cells(&scores));
            }
        }
    }
    Ok(())
}

fn table_cells(cells: &[String]) -> String {
    cells.iter().map(|cell| format!(" {cell} |")).collect()
}

/// Returns `mean ± standard deviation` of the accuracy in per cent.
fn score(classes: &[ClassFeatures], set: FeatureSet, size: usize, seeds: u64) -> String {
    let accuracies: Vec<f64> =
        (0..seeds).into_par_iter().map(|seed| 100.0 * accuracy(classes, set, size, seed)).collect();
    let mean = accuracies.iter().sum::<f64>() / accuracies.len() as f64;
    let variance = accuracies.iter().map(|accuracy| (accuracy - mean).powi(2)).sum::<f64>();
    format!("{mean:.1} ± {:.1}", (variance / (accuracies.len() as f64 - 1.0).max(1.0)).sqrt())
}

/// Returns the accuracy of a head whose L2 strength is chosen as `fine-tune` chooses it.
fn accuracy(classes: &[ClassFeatures], set: FeatureSet, size: usize, seed: u64) -> f64 {
    let (train, test) = examples(classes, set, size, seed);
    let problem = ConvexProblem::new(&train, classes.len(), ClassWeight::Balanced);
    let problems = [(set, problem)];
    let Some(choice) = choose(&problems, Some(&folds(&train, size)), None) else { return 0.0 };
    picture_sets::accuracy(&problems[0].1.fit(choice.l2).classifier, &test)
}
