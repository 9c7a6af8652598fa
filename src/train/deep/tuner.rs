//! Training of private layers and their classifier, on a whole data set or without one fold.

use std::path::PathBuf;

use rand::{RngExt as _, SeedableRng as _, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;

use super::{
    DeepEpoch, FineTuneOptions,
    checkpoint::Checkpoints,
    feature_maps::{FeatureMaps, MapStorage},
};
use crate::{
    base::{Architecture, BaseError, BranchWeights, FeatureSet},
    ids::Digest,
    torch::{LinearStart, Rates, Rows, TrainableHead},
    train::{
        context::TrainContext,
        error::TrainError,
        features::extract::View,
        linear::{Classifier, ConvexProblem, scaling::Scaling},
        progress::{Event, Warning},
    },
};

/// Step size of the classifier, which starts from a fitted one.
const CLASSIFIER_RATE: f64 = 1e-3;
/// Rows in one evaluation batch.
const EVALUATION_ROWS: usize = 64;

/// A training picture with its views.
#[derive(Debug)]
pub(crate) struct TuneExample {
    pub(crate) class: usize,
    /// Weight in the loss, on any scale.
    pub(crate) weight: f64,
    pub(crate) views: Vec<TuneView>,
}

/// A view of a training picture.
#[derive(Debug)]
pub(crate) struct TuneView {
    /// Names its feature map.
    pub(crate) digest: Digest,
    /// The part of its features that comes from the trunk, below the branch point.
    pub(crate) from_trunk: Vec<f32>,
}

/// The training data, the start and the settings of a fine-tuning.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) options: &'a FineTuneOptions,
    pub(crate) architecture: Architecture,
    pub(crate) start: BranchWeights,
    pub(crate) set: FeatureSet,
    pub(crate) l2: f64,
    pub(crate) seed: u64,
    pub(crate) problem: &'a ConvexProblem,
    pub(crate) examples: Vec<TuneExample>,
    /// The example of each row of the problem.
    pub(crate) example_of_row: Vec<usize>,
    /// Folder of checkpoints, whose name covers the data set and every setting.
    pub(crate) checkpoints: Option<PathBuf>,
}

/// Fine-tunes on one data set, with feature maps computed once for all folds.
#[derive(Debug)]
pub(crate) struct FineTuner<'a> {
    plan: Plan<'a>,
    feature_maps: FeatureMaps,
}

impl<'a> FineTuner<'a> {
    /// Computes the feature maps that the cache does not have.
    pub(crate) fn new(
        context: &mut TrainContext<'_>,
        plan: Plan<'a>,
        views: &[View<'_>],
        cache: Option<&std::path::Path>,
    ) -> Result<Self, TrainError> {
        let storage = MapStorage { folder: cache, limit: plan.options.map_limit };
        let branch = (plan.architecture, plan.start.branch);
        let feature_maps = FeatureMaps::gather(context, storage, branch, views)?;
        Ok(Self { plan, feature_maps })
    }

    /// Fits on the included examples: first the classifier, then everything.
    pub(crate) fn fit(
        &self,
        fold: Option<usize>,
        include: impl Fn(usize) -> bool,
        observer: &mut dyn FnMut(Event<'_>),
    ) -> Result<Fitted<'_>, TrainError> {
        let probe =
            self.plan.problem.fit_rows(self.plan.l2, |row| include(self.plan.example_of_row[row]));
        let rates = Rates { classifier: CLASSIFIER_RATE, convolutions: self.plan.options.rate };
        let Scaling { mean, deviation } = &self.plan.problem.scaling;
        let (weight, bias, l2) = (&probe.weight, &probe.bias, self.plan.l2);
        let mut model = TrainableHead::new(
            self.plan.architecture,
            &self.plan.start,
            LinearStart { weight, bias, mean, deviation, l2 },
            self.plan.set,
            self.feature_maps.shape(),
            rates,
        )?;
        let included: Vec<usize> =
            (0..self.plan.examples.len()).filter(|&example| include(example)).collect();
        let name = fold.map_or_else(|| "all".to_owned(), |fold| format!("fold-{fold}"));
        let mut checkpoints =
            self.plan.checkpoints.as_ref().map(|folder| Checkpoints::new(folder.join(name)));
        let done = match &checkpoints {
            Some(checkpoints) => checkpoints.resume(&mut model)?,
            None => 0,
        };
        for epoch in done..self.plan.options.epochs {
            let train_loss = self.epoch(&mut model, epoch, &included)?;
            if !train_loss.is_finite() {
                return Err(TrainError::Diverged { learning_rate: self.plan.options.rate as f32 });
            }
            let most_epochs = self.plan.options.epochs;
            observer(Event::DeepEpoch(&DeepEpoch {
                fold,
                epoch: epoch + 1,
                most_epochs,
                train_loss,
            }));
            let state = model.state()?;
            if let Some(Err(error)) = checkpoints.as_ref().map(|all| all.save(epoch + 1, &state)) {
                let path = self.plan.checkpoints.clone().unwrap_or_default();
                observer(Event::Warning(Warning::NoCheckpoint { path, reason: error.to_string() }));
                checkpoints = None;
            }
        }
        Ok(Fitted { model, scaling: &self.plan.problem.scaling })
    }

    /// Trains on each included example once; returns the mean loss.
    ///
    /// The order and the views depend only on seed and epoch.
    fn epoch(
        &self,
        model: &mut TrainableHead,
        epoch: usize,
        included: &[usize],
    ) -> Result<f64, TrainError> {
        let mut random = ChaCha8Rng::seed_from_u64(self.plan.seed ^ ((epoch as u64 + 1) << 32));
        let mut order = included.to_vec();
        order.shuffle(&mut random);
        let weights: f64 = included.iter().map(|&example| self.plan.examples[example].weight).sum();
        let scale = included.len() as f64 / weights;
        let steps = included.len().div_ceil(self.plan.options.batch_size.max(1));
        let all_steps = (steps * self.plan.options.epochs) as f64;
        let mut loss = 0.0;
        for (number, batch) in order.chunks(self.plan.options.batch_size.max(1)).enumerate() {
            let rows = batch.iter().map(|&example| {
                (example, random.random_range(0..self.plan.examples[example].views.len()))
            });
            let rows = self.rows(rows, scale)?;
            let step = epoch * steps + number;
            let cosine = 0.5 * (1.0 + (std::f64::consts::PI * step as f64 / all_steps).cos());
            let number = i32::try_from(step + 1).unwrap_or(i32::MAX);
            loss += model.step(&rows, number, cosine)? * batch.len() as f64;
        }
        Ok(loss / included.len() as f64)
    }

    /// Returns the class that the fitted head answers for the unchanged view of each example.
    pub(crate) fn answers(
        &self,
        fitted: &Fitted<'_>,
        examples: &[usize],
    ) -> Result<Vec<usize>, TrainError> {
        let mut answers = Vec::with_capacity(examples.len());
        for chunk in examples.chunks(EVALUATION_ROWS) {
            let rows = self.rows(chunk.iter().map(|&example| (example, 0)), 1.0)?;
            answers.extend(fitted.model.answers(&rows)?);
        }
        Ok(answers)
    }

    /// Collects the rows of the given (example, view) pairs.
    fn rows(
        &self,
        of: impl Iterator<Item = (usize, usize)>,
        scale: f64,
    ) -> Result<Rows, TrainError> {
        let mut rows = Rows::default();
        for (example, view) in of {
            let TuneExample { class, weight, views } = &self.plan.examples[example];
            rows.maps.extend(self.feature_maps.read(views[view].digest)?);
            rows.from_trunk.extend_from_slice(&views[view].from_trunk);
            rows.classes.push(*class as i64);
            rows.weights.push((weight * scale) as f32);
        }
        Ok(rows)
    }

    /// Removes the checkpoints, once there is nothing to resume.
    pub(crate) fn forget_checkpoints(&self) {
        if let Some(folder) = &self.plan.checkpoints {
            // Failure only leaves a few unused megabytes in the cache.
            let _left = fs_err::remove_dir_all(folder);
        }
    }
}

/// A fitted head, whose classifier is still that of standardised features.
#[derive(Debug)]
pub(crate) struct Fitted<'a> {
    model: TrainableHead,
    scaling: &'a Scaling,
}

impl Fitted<'_> {
    /// Returns the private layers and the classifier of raw features.
    pub(crate) fn trained(&self) -> Result<(BranchWeights, Classifier), BaseError> {
        let (weight, bias) = self.model.classifier()?;
        let (weight, bias) = self.scaling.fold(&weight, &bias);
        Ok((self.model.layers()?, Classifier { weight, bias }))
    }
}
