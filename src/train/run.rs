//! A whole training run, from the settings to the published head.

use serde::Serialize;
use serde_json::json;
use sha2::Digest as _;

use super::{
    context::TrainContext,
    data::{Dataset, Part, PictureFile},
    deep::{self, FineTuned, StrategyChoice, StrategyOutcome},
    error::TrainError,
    evaluate::Evaluation,
    features::{extract::FeatureReader, reference},
    gate::{Comparison, Gate, GateDecision},
    linear::{AdamFit, Choice, Classifier, ConvexProblem, Epoch},
    options::{Solver, TrainOptions},
    progress::{Event, Warning},
    survey::Survey,
    training_set::TrainingSet,
};
use crate::{
    base::Base,
    head::{DecisionRule, Linear},
    ids::Digest,
    image::Preprocess,
    store::{HeadDraft, HeadStore, Published},
};

/// Labels that are good unless `--good` names others; letter case does not matter.
const GOOD_BY_NAME: [&str; 2] = ["ok", "good"];

/// How the classifier was fitted.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "solver", rename_all = "snake_case")]
pub enum Fitted {
    Lbfgs {
        l2: f64,
        iterations: usize,
    },
    Adam {
        best_epoch: Epoch,
        epochs: usize,
    },
    /// Private layers and the classifier, trained from the classifier's minimum at this L2.
    FineTuned {
        branch: String,
        l2: f64,
        epochs: usize,
    },
}

/// A published head and how it was made.
#[derive(Debug, Clone)]
pub struct Outcome {
    pub published: Published,
    pub choice: Choice,
    pub strategy: StrategyChoice,
    pub fitted: Fitted,
    pub evaluation: Evaluation,
    pub gate: Gate,
    pub warnings: Vec<Warning>,
}

/// Trains a head and publishes it as its task's next version.
///
/// The same pictures, base and options yield the same file, except for `created_at`, the version
/// and the gate's comparison.
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
    let context = &mut TrainContext { options, base, observer: &mut observe };
    options.preprocess.validate()?;
    let dataset = training_data(context)?;
    let good = good_classes(context, &dataset.classes)?;
    deep::check(options)?;
    check_can_publish(options)?;
    let options = &with_levels(context, &dataset);
    let context = &mut TrainContext { options, base: context.base, observer: context.observer };

    let training_set = TrainingSet::gather(context, &dataset)?;
    let (choice, problem) = training_set.choose(options).ok_or(TrainError::FeaturesMissing)?;
    context.observe(Event::Choice(&choice));
    let StrategyOutcome { choice: strategy, layers } =
        deep::decide(context, &training_set, &choice, &problem)?;
    context.observe(Event::Strategy(&strategy));
    let (branch, classifier, fitted) = match layers {
        Some(FineTuned { weights, classifier, l2 }) => {
            let (branch, epochs) = (weights.branch.to_string(), options.fine_tune.epochs);
            (Some(weights), classifier, Fitted::FineTuned { branch, l2, epochs })
        }
        None => {
            let (classifier, fitted) = fit_linear(context, &training_set, &choice, &problem)?;
            (None, classifier, fitted)
        }
    };
    let width = context.base.widths().of(choice.features);
    let linear = Linear::new(classifier.weight, classifier.bias, width)
        .map_err(|error| TrainError::Classifier { detail: error.to_string() })?;

    let answers = training_set.answers(context, branch.as_ref(), &linear, choice.features)?;
    let evaluation = Evaluation::new(&dataset.classes, answers.iter().copied());
    context.observe(Event::Evaluated(&evaluation));
    let gate = gate(context, &training_set, &answers)?;
    context.observe(Event::Gate(&gate));
    if let (GateDecision::Refused, Some(comparison)) = (gate.decision, gate.comparison) {
        return Err(TrainError::WorseThanServing { task: options.task.clone(), comparison });
    }
    let draft = HeadDraft {
        task: options.task.clone(),
        created_at: options.created_at.clone(),
        base: context.base.identity().clone(),
        features: choice.features,
        preprocess: options.preprocess.clone(),
        classes: dataset
            .classes
            .iter()
            .map(|label| (label.clone(), good.contains(label)))
            .collect(),
        decision: DecisionRule::uniform(options.threshold, dataset.classes.len()),
        evidence: json!({
            "pictures": training_set.pictures_per_class(&dataset.classes),
            "choice": choice,
            "strategy": strategy,
            "fit": fitted,
            "validation": evaluation,
            "gate": gate,
        }),
        provenance: json!({
            "program": concat!("fine-tune ", env!("CARGO_PKG_VERSION")),
            "strategy": if branch.is_some() { "fine-tuning" } else { "feature extraction" },
            "command": options.command,
            "seed": options.seed,
            "dataset_digest": dataset_digest(&dataset.classes, training_set.pictures()),
            "base_origin": options.base_origin,
        }),
        arithmetic: context.base.arithmetic().to_owned(),
        reference: reference::choose(
            &training_set.pictures().collect::<Vec<_>>(),
            choice.features,
            &options.preprocess,
            &linear,
            &mut FeatureReader::of_head(context.base, branch.as_ref())?,
        )?,
        linear,
        branch,
    };
    let published = HeadStore::new(&options.heads).publish(&draft)?;
    let (version, digest, path) = (published.version, published.digest, published.path.as_path());
    context.observe(Event::Published { version, digest, path, accuracy: evaluation.accuracy });
    Ok(Outcome { published, choice, strategy, fitted, evaluation, gate, warnings })
}

fn fit_linear(
    context: &mut TrainContext<'_>,
    training_set: &TrainingSet<'_>,
    choice: &Choice,
    problem: &ConvexProblem,
) -> Result<(Classifier, Fitted), TrainError> {
    let options = context.options;
    match options.solver {
        Solver::Lbfgs => {
            let fit = problem.fit(choice.l2);
            Ok((fit.classifier, Fitted::Lbfgs { l2: choice.l2, iterations: fit.iterations }))
        }
        Solver::Adam => {
            let fit = training_set.fit_by_adam(context, choice.features);
            let AdamFit { classifier, best, epochs_run } =
                fit.ok_or(TrainError::Diverged { learning_rate: options.adam.learning_rate })?;
            Ok((classifier, Fitted::Adam { best_epoch: best, epochs: epochs_run }))
        }
    }
}

/// Reads the dataset and drops its test pictures.
fn training_data(context: &mut TrainContext<'_>) -> Result<Dataset, TrainError> {
    let TrainOptions { data, group_by, .. } = context.options;
    let mut dataset =
        Dataset::read(data, group_by, &mut |warning| context.observe(Event::Warning(warning)))?;
    let found = dataset.pictures.len();
    dataset.pictures.retain(|picture| picture.given != Some(Part::Test));
    if dataset.pictures.len() < found {
        let pictures = found - dataset.pictures.len();
        context.observe(Event::Warning(Warning::LeftForTest { pictures }));
    }
    dataset.check(&dataset.pictures)?;
    context.observe(Event::Dataset { classes: &dataset.classes, pictures: dataset.pictures.len() });
    Ok(dataset)
}

/// Returns the settings with the levels that the pictures tell, or that the user set.
fn with_levels(context: &mut TrainContext<'_>, dataset: &Dataset) -> TrainOptions {
    let options = context.options;
    let survey = Survey::of(&dataset.pictures);
    for warning in survey.warnings(options.levels) {
        context.observe(Event::Warning(warning));
    }
    let (levels, pictures) = (survey.levels(options.levels), survey.deep_pictures());
    if pictures > 0 {
        context.observe(Event::Levels { levels, pictures });
    }
    let preprocess = Preprocess { levels, ..options.preprocess.clone() };
    TrainOptions { preprocess, ..options.clone() }
}

fn good_classes(
    context: &mut TrainContext<'_>,
    known: &[String],
) -> Result<Vec<String>, TrainError> {
    let options = context.options;
    if let Some(class) = options.good.iter().find(|class| !known.contains(class)) {
        let (class, data, known) = (class.clone(), options.data.clone(), known.to_vec());
        return Err(TrainError::UnknownGood { class, data, known });
    }
    let by_name = options.good.is_empty();
    let is_good_name =
        |label: &&String| GOOD_BY_NAME.iter().any(|name| label.eq_ignore_ascii_case(name));
    let good = if by_name {
        known.iter().filter(is_good_name).cloned().collect()
    } else {
        options.good.clone()
    };
    if good.is_empty() {
        context.observe(Event::Warning(Warning::NothingPasses { known: known.to_vec() }));
    } else {
        context.observe(Event::Good { classes: &good, by_name });
    }
    Ok(good)
}

/// Checks that the heads folder is writable, by creating and removing a file in it.
///
/// Permission bits alone do not prove it, and a late failure would waste hours of computation.
fn check_can_publish(options: &TrainOptions) -> Result<(), TrainError> {
    let folder = options.heads.join(options.task.as_str());
    let created = fs_err::create_dir_all(&folder)
        .and_then(|()| tempfile::Builder::new().prefix(".try-").tempfile_in(&folder));
    created.map(drop).map_err(|source| TrainError::HeadsFolder { folder, source })
}

/// Compares `answers` of the new head with the serving head's on the same pictures.
fn gate(
    context: &mut TrainContext<'_>,
    training_set: &TrainingSet<'_>,
    answers: &[(usize, usize)],
) -> Result<Gate, TrainError> {
    let TrainContext { options, base, .. } = context;
    let store = HeadStore::new(&options.heads);
    let serving = store
        .newest_for(&options.task, base.identity())
        .map_err(|source| TrainError::HeadsFolder { folder: options.heads.clone(), source })?
        .filter(|(head, _)| head.linear.width() == base.widths().of(head.features));
    let force_because = options.force_because.clone();
    let Some((serving, digest)) = serving else { return Ok(Gate::new(None, force_because)) };
    let labels = training_set.answered_labels(context, &serving)?;
    let right = answers.iter().zip(labels).map(|(&(truth, answer), label)| {
        (truth == answer, label.is_some_and(|label| label == training_set.classes()[truth]))
    });
    let comparison = Comparison::new(serving.version, digest, right);
    Ok(Gate::new(Some(comparison), force_because))
}

/// Returns the SHA-256 over the sorted labels and contents of all pictures used.
///
/// File names do not enter it.
fn dataset_digest<'a>(
    labels: &[String],
    pictures: impl Iterator<Item = &'a PictureFile>,
) -> Digest {
    let lines: std::collections::BTreeSet<String> = pictures
        .map(|picture| format!("{}\n{}\n", labels[picture.class], picture.digest))
        .collect();
    let mut hasher = sha2::Sha256::new();
    lines.iter().for_each(|line| hasher.update(line));
    Digest::from_bytes(hasher.finalize().into())
}
