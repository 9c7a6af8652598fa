//! Training a linear head: class folders to a published head.
//!
//! In order: `dataset` reads the folders, `features` runs the frozen base once a picture or finds the result in the
//! `cache`, `split` keeps pictures back, `fit` learns from the others, `evaluate` counts on those kept back, and the
//! store publishes. What can be refused is refused before the first forward pass.

mod adam;
pub mod cache;
pub mod dataset;
mod evaluate;
mod features;
mod fit;
mod reference;
mod split;

pub use dataset::DatasetError;
pub use evaluate::{ClassEvaluation, Evaluation};
pub use fit::{ClassWeight, Epoch, Examples, Fit, FitOptions, UnknownClassWeight, fit};

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use serde::Serialize;
use serde_json::json;
use sha2::Digest as _;

use self::{
    cache::FeatureCache,
    dataset::{Dataset, Half, PictureFile},
};
use crate::{
    base::{Base, BaseError},
    features::FeatureSet,
    head::{DecisionRule, Linear},
    image::{ImageError, Preprocess},
    store::{HeadDraft, HeadStore, PublishError, Published},
    task::{Digest, TaskName, Version},
};

/// Labels that pass when nothing else is said, in any case.
const GOOD_BY_NAME: [&str; 2] = ["ok", "good"];

/// What to train, from what, and how.
#[derive(Debug, Clone)]
pub struct TrainOptions {
    /// Folder of class folders.
    pub data: PathBuf,
    pub task: TaskName,
    /// Folder of heads; made if it is missing.
    pub heads: PathBuf,
    pub features: FeatureSet,
    pub preprocess: Preprocess,
    /// Classes that may pass; if empty, those named ok or good.
    pub good: Vec<String>,
    /// Probability that the winning class has to reach, 0 to 1.
    pub threshold: f32,
    /// Share of the pictures that is kept back, 0 to 1, where the folders do not say.
    pub validation_share: f64,
    /// Of the split and of the order of training.
    pub seed: u64,
    pub fit: FitOptions,
    /// Folder of the feature cache; without one nothing is kept.
    pub cache: Option<PathBuf>,
    /// RFC 3339, in UTC.
    pub created_at: String,
    /// Where the base's weights came from, for the record.
    pub base_origin: Option<String>,
    /// The settings in force, for the record.
    pub command: BTreeMap<String, String>,
}

/// What happens meanwhile, in this order: dataset, good, features, epoch, evaluated, published; warnings at any time.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    Dataset {
        classes: &'a [String],
        pictures: usize,
    },
    Good {
        classes: &'a [String],
        /// Nobody named them: they are called ok or good.
        by_name: bool,
    },
    Features {
        done: usize,
        total: usize,
        /// Of those done, how many needed no forward pass.
        cached: usize,
    },
    Epoch(&'a Epoch),
    Evaluated(&'a Evaluation),
    Published {
        version: Version,
        digest: Digest,
        path: &'a Path,
        accuracy: f64,
    },
    Warning(Warning),
}

/// Something that does not stop the training and that a person should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Warning {
    #[error("{path} was left out: {reason}")]
    Unreadable { path: PathBuf, reason: String },
    #[error("{path} was left out: {reason}")]
    NoPicture { path: PathBuf, reason: String },
    #[error("{path} was left out: it is the same picture as {first}")]
    Repeated { path: PathBuf, first: PathBuf },
    #[error("{path} was left out: it lies outside the class folders")]
    OutsideClasses { path: PathBuf },
    #[error("{path} was left out: folders inside a class folder are not looked into")]
    NestedFolder { path: PathBuf },
    #[error("features are not kept, the next run computes them again: cannot write into {path}: {reason}")]
    CacheNotWritten { path: PathBuf, reason: String },
    #[error("no class is good, so nothing will ever pass; name one with --good, known are {}", .known.join(", "))]
    NothingPasses { known: Vec<String> },
}

/// A published head and how it came about.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub published: Published,
    pub evaluation: Evaluation,
    pub best: Epoch,
    pub epochs_run: usize,
    pub warnings: Vec<Warning>,
}

#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    #[error("class {class:?} of --good is none of {folder}; known are {}", .known.join(", "))]
    UnknownGood { class: String, folder: PathBuf, known: Vec<String> },
    #[error(
        "cannot write into {folder}, where the head is to be published: {source}; nothing was computed yet"
    )]
    HeadsFolder { folder: PathBuf, source: io::Error },
    #[error("the preprocessing is not valid: {0}")]
    Preprocess(#[from] ImageError),
    #[error("the base failed: {0}")]
    Base(#[from] BaseError),
    #[error("the base gave fewer features than it has")]
    FeaturesMissing,
    #[error("training diverged at learning rate {learning_rate}; try a lower --learning-rate")]
    Diverged { learning_rate: f32 },
    #[error("the trained numbers are no linear classifier: {detail}")]
    Classifier { detail: String },
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// Trains a head and publishes it as its task's next version.
///
/// The same pictures, base and options give the same file but for `created_at` and the version.
pub fn train(
    options: &TrainOptions,
    base: &mut dyn Base,
    observer: &mut dyn FnMut(Event<'_>),
) -> Result<Outcome, TrainError> {
    let mut warnings = Vec::new();
    let mut observe = |event: Event<'_>| {
        if let Event::Warning(warning) = &event {
            warnings.push(warning.clone());
        }
        observer(event);
    };
    options.preprocess.validate()?;
    let dataset = Dataset::read(&options.data, &mut |warning| observe(Event::Warning(warning)))?;
    observe(Event::Dataset { classes: &dataset.classes, pictures: dataset.pictures.len() });
    let good = good_classes(options, &dataset.classes, &mut observe)?;
    check_can_publish(options)?;

    let cache = options.cache.as_deref();
    let cache = cache.map(|root| {
        FeatureCache::new(root, base.identity(), base.arithmetic(), base.widths(), &options.preprocess)
    });
    let (set, preprocess) = (options.features, &options.preprocess);
    let rows = features::features_of(&dataset.pictures, set, preprocess, cache.as_ref(), base, &mut observe)?;
    let (pictures, rows): (Vec<PictureFile>, Vec<Vec<f32>>) =
        dataset.pictures.iter().cloned().zip(rows).filter_map(|(picture, row)| Some((picture, row?))).unzip();
    dataset.check(&pictures)?;

    let halves = split::split(&pictures, options.validation_share, options.seed);
    let width = base.widths().of(options.features);
    let examples = |wanted: Half| {
        let mut examples = Examples { width, ..Examples::default() };
        for ((picture, row), half) in pictures.iter().zip(&rows).zip(&halves) {
            if *half == wanted {
                examples.push(row, picture.class);
            }
        }
        examples
    };
    let (learned, kept_back) = (examples(Half::Train), examples(Half::Validation));
    let classes = dataset.classes.len();
    let fitted = fit(&learned, &kept_back, classes, &options.fit, &mut |epoch| observe(Event::Epoch(epoch)));
    let Fit { weight, bias, best, epochs_run } =
        fitted.ok_or(TrainError::Diverged { learning_rate: options.fit.learning_rate })?;
    let linear = Linear::new(weight, bias, width)
        .map_err(|error| TrainError::Classifier { detail: error.to_string() })?;

    let answers = kept_back.rows().map(|(features, class)| (class, linear.winner(features)));
    let evaluation = Evaluation::new(&dataset.classes, answers);
    observe(Event::Evaluated(&evaluation));
    let draft = HeadDraft {
        task: options.task.clone(),
        created_at: options.created_at.clone(),
        base: base.identity().clone(),
        features: options.features,
        preprocess: options.preprocess.clone(),
        classes: dataset.classes.iter().map(|label| (label.clone(), good.contains(label))).collect(),
        decision: DecisionRule::uniform(options.threshold, classes),
        evidence: json!({
            "pictures": pictures_per_class(&dataset.classes, &learned, &kept_back),
            "validation": evaluation,
            "epochs": epochs_run,
            "best_epoch": best,
        }),
        provenance: json!({
            "program": concat!("fine-tune ", env!("CARGO_PKG_VERSION")),
            "strategy": "feature extraction",
            "command": options.command,
            "seed": options.seed,
            "dataset_digest": dataset_digest(&dataset.classes, &pictures),
            "base_origin": options.base_origin,
        }),
        arithmetic: base.arithmetic().to_owned(),
        reference: reference::choose(&pictures, set, preprocess, &linear, base)?,
        linear,
    };
    let published = HeadStore::new(&options.heads).publish(&draft)?;
    let (version, digest, path) = (published.version, published.digest, published.path.as_path());
    observe(Event::Published { version, digest, path, accuracy: evaluation.accuracy });
    Ok(Outcome { published, evaluation, best, epochs_run, warnings })
}

fn good_classes(
    options: &TrainOptions,
    known: &[String],
    observe: &mut dyn FnMut(Event<'_>),
) -> Result<Vec<String>, TrainError> {
    if let Some(class) = options.good.iter().find(|class| !known.contains(class)) {
        let (class, folder, known) = (class.clone(), options.data.clone(), known.to_vec());
        return Err(TrainError::UnknownGood { class, folder, known });
    }
    let by_name = options.good.is_empty();
    let is_good_name = |label: &&String| GOOD_BY_NAME.iter().any(|name| label.eq_ignore_ascii_case(name));
    let good =
        if by_name { known.iter().filter(is_good_name).cloned().collect() } else { options.good.clone() };
    if good.is_empty() {
        observe(Event::Warning(Warning::NothingPasses { known: known.to_vec() }));
    } else {
        observe(Event::Good { classes: &good, by_name });
    }
    Ok(good)
}

/// A file is made and removed again: modes alone do not tell, and hours of computing are at stake.
fn check_can_publish(options: &TrainOptions) -> Result<(), TrainError> {
    let folder = options.heads.join(options.task.as_str());
    let tried = fs_err::create_dir_all(&folder)
        .and_then(|()| tempfile::Builder::new().prefix(".try-").tempfile_in(&folder));
    tried.map(drop).map_err(|source| TrainError::HeadsFolder { folder, source })
}

fn pictures_per_class(labels: &[String], learned: &Examples, kept_back: &Examples) -> serde_json::Value {
    let count = |examples: &Examples, class| examples.classes.iter().filter(|&&of| of == class).count();
    let per_class = labels.iter().enumerate().map(|(class, label)| {
        (label.clone(), json!({ "train": count(learned, class), "val": count(kept_back, class) }))
    });
    per_class.collect::<serde_json::Map<_, _>>().into()
}

/// SHA-256 over label and content of every picture used, sorted; names of files do not count.
fn dataset_digest(labels: &[String], pictures: &[PictureFile]) -> Digest {
    let lines: std::collections::BTreeSet<String> =
        pictures.iter().map(|picture| format!("{}\n{}\n", labels[picture.class], picture.digest)).collect();
    let mut hasher = sha2::Sha256::new();
    lines.iter().for_each(|line| hasher.update(line));
    Digest::from_bytes(hasher.finalize().into())
}

#[cfg(test)]
mod tests;
