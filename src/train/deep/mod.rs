//! Fine-tuning: the last layers of the network become the head's own and learn with it, from the base's weights and at a
//! very small step size, while the trunk below them stays frozen and shared.
//!
//! The linear classifier is fitted first, then everything learns (LP-FT, Kumar et al. 2022), so that the first gradients do
//! not distort features that were good. The trunk's maps are computed once (`maps`); an epoch costs the private layers.

mod adam;
mod checkpoint;
mod gain;
mod maps;
mod model;

pub use gain::Gain;

use std::path::PathBuf;

use rand::{RngExt as _, SeedableRng as _, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use self::{
    checkpoint::Checkpoints,
    maps::{Place, TrunkMaps},
    model::{Model, Rates, Rows},
};
use super::{Classifier, ConvexProblem, Event, TrainError, Warning, features::View};
use crate::{
    base::{Architecture, Base, BaseError},
    branch::BranchWeights,
    features::FeatureSet,
    image::Preprocess,
    task::Digest,
};

/// Step size of the classifier, which is good already.
const CLASSIFIER_RATE: f64 = 1e-3;
/// Rows judged together.
const JUDGED_ROWS: usize = 64;

/// How private layers learn.
#[derive(Debug, Clone, PartialEq)]
pub struct FineTuneOptions {
    pub epochs: usize,
    pub batch_size: usize,
    /// Adam's step size for the convolutions at the start of the cosine.
    pub rate: f64,
    /// Most bytes of trunk maps in the cache.
    pub map_limit: u64,
}

impl Default for FineTuneOptions {
    fn default() -> Self {
        Self { epochs: 10, batch_size: 16, rate: 3e-4, map_limit: 8 << 30 }
    }
}

/// What an epoch of fine-tuning came to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct DeepEpoch {
    /// From 1; `None`: the pictures of all folds are learned.
    pub fold: Option<usize>,
    /// From 1.
    pub epoch: usize,
    pub most_epochs: usize,
    /// Mean cross-entropy in nats, weighted by class.
    pub train_loss: f64,
}

/// A picture to learn, with its views.
#[derive(Debug)]
pub(super) struct Lesson {
    pub(super) class: usize,
    /// How much it counts; any scale.
    pub(super) weight: f64,
    pub(super) views: Vec<LessonView>,
}

#[derive(Debug)]
pub(super) struct LessonView {
    pub(super) name: Digest,
    /// What its features have from below the branch.
    pub(super) from_trunk: Vec<f32>,
}

/// What is learned, from where, and how.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) options: &'a FineTuneOptions,
    pub(super) architecture: Architecture,
    pub(super) start: BranchWeights,
    pub(super) set: FeatureSet,
    pub(super) l2: f64,
    pub(super) seed: u64,
    pub(super) problem: &'a ConvexProblem,
    pub(super) lessons: Vec<Lesson>,
    /// For each row of the problem its lesson.
    pub(super) lesson_of_row: Vec<usize>,
    /// Where checkpoints go: the name tells the data set and every setting.
    pub(super) checkpoints: Option<PathBuf>,
}

/// All that the fine-tunings of one data set share.
#[derive(Debug)]
pub(super) struct School<'a> {
    plan: Plan<'a>,
    maps: TrunkMaps,
}

impl<'a> School<'a> {
    /// Computes the maps that the cache does not have.
    pub(super) fn new(
        plan: Plan<'a>,
        views: &[View<'_>],
        preprocess: &Preprocess,
        cache: Option<&std::path::Path>,
        base: &mut dyn Base,
        observer: &mut dyn FnMut(Event<'_>),
    ) -> Result<Self, TrainError> {
        let place = Place { folder: cache, limit: plan.options.map_limit };
        let branch = (plan.architecture, plan.start.branch);
        let maps = TrunkMaps::gather(place, branch, views, preprocess, base, observer)?;
        Ok(Self { plan, maps })
    }

    /// Fits on the lessons that are `wanted`: first the classifier, then everything.
    pub(super) fn fit(
        &self,
        fold: Option<usize>,
        wanted: impl Fn(usize) -> bool,
        observer: &mut dyn FnMut(Event<'_>),
    ) -> Result<Fitted<'_>, TrainError> {
        let probe = self.plan.problem.fit_rows(self.plan.l2, |row| wanted(self.plan.lesson_of_row[row]));
        let rates = Rates { classifier: CLASSIFIER_RATE, convolutions: self.plan.options.rate };
        let mut model = Model::new(
            self.plan.architecture,
            &self.plan.start,
            &probe,
            self.plan.set,
            self.maps.shape(),
            self.plan.l2,
            rates,
        )?;
        let learned: Vec<usize> = (0..self.plan.lessons.len()).filter(|&lesson| wanted(lesson)).collect();
        let name = fold.map_or_else(|| "all".to_owned(), |fold| format!("fold-{fold}"));
        let mut checkpoints =
            self.plan.checkpoints.as_ref().map(|folder| Checkpoints::new(folder.join(name)));
        let done = checkpoints.as_ref().map_or(0, |checkpoints| checkpoints.resume(&model.state()));
        for epoch in done..self.plan.options.epochs {
            let train_loss = self.epoch(&mut model, epoch, &learned)?;
            if !train_loss.is_finite() {
                return Err(TrainError::Diverged { learning_rate: self.plan.options.rate as f32 });
            }
            let most_epochs = self.plan.options.epochs;
            observer(Event::DeepEpoch(&DeepEpoch { fold, epoch: epoch + 1, most_epochs, train_loss }));
            if let Some(Err(error)) = checkpoints.as_ref().map(|all| all.keep(epoch + 1, &model.state())) {
                let path = self.plan.checkpoints.clone().unwrap_or_default();
                observer(Event::Warning(Warning::NoCheckpoint { path, reason: error.to_string() }));
                checkpoints = None;
            }
        }
        Ok(Fitted { model, probe })
    }

    /// Every lesson once, in an order and with views that depend on seed and epoch alone.
    fn epoch(&self, model: &mut Model, epoch: usize, learned: &[usize]) -> Result<f64, TrainError> {
        let mut random = ChaCha8Rng::seed_from_u64(self.plan.seed ^ ((epoch as u64 + 1) << 32));
        let mut order = learned.to_vec();
        order.shuffle(&mut random);
        let weights: f64 = learned.iter().map(|&lesson| self.plan.lessons[lesson].weight).sum();
        let scale = learned.len() as f64 / weights;
        let steps = learned.len().div_ceil(self.plan.options.batch_size.max(1));
        let all_steps = (steps * self.plan.options.epochs) as f64;
        let mut loss = 0.0;
        for (number, batch) in order.chunks(self.plan.options.batch_size.max(1)).enumerate() {
            let rows = batch
                .iter()
                .map(|&lesson| (lesson, random.random_range(0..self.plan.lessons[lesson].views.len())));
            let rows = self.rows(rows, scale)?;
            let step = epoch * steps + number;
            let cosine = 0.5 * (1.0 + (std::f64::consts::PI * step as f64 / all_steps).cos());
            let number = i32::try_from(step + 1).unwrap_or(i32::MAX);
            loss += model.step(&rows, number, cosine)? * batch.len() as f64;
        }
        Ok(loss / learned.len() as f64)
    }

    /// The answer to the picture itself of each of these lessons.
    pub(super) fn answers(&self, fitted: &Fitted<'_>, lessons: &[usize]) -> Result<Vec<usize>, TrainError> {
        let mut answers = Vec::with_capacity(lessons.len());
        for part in lessons.chunks(JUDGED_ROWS) {
            let rows = self.rows(part.iter().map(|&lesson| (lesson, 0)), 1.0)?;
            answers.extend(fitted.model.answers(&rows)?);
        }
        Ok(answers)
    }

    /// The rows of these (lesson, view).
    fn rows(&self, of: impl Iterator<Item = (usize, usize)>, scale: f64) -> Result<Rows, TrainError> {
        let mut rows = Rows::default();
        for (lesson, view) in of {
            let Lesson { class, weight, views } = &self.plan.lessons[lesson];
            rows.maps.extend(self.maps.read(views[view].name)?);
            rows.from_trunk.extend_from_slice(&views[view].from_trunk);
            rows.classes.push(*class as i64);
            rows.weights.push((weight * scale) as f32);
        }
        Ok(rows)
    }

    /// Nothing is left to go on with.
    pub(super) fn forget_checkpoints(&self) {
        if let Some(folder) = &self.plan.checkpoints {
            // At worst a few megabytes stay that nobody asks for.
            let _stays = fs_err::remove_dir_all(folder);
        }
    }
}

/// What learned, and from where it started.
#[derive(Debug)]
pub(super) struct Fitted<'a> {
    model: Model,
    probe: super::convex_fit::Standardised<'a>,
}

impl Fitted<'_> {
    pub(super) fn trained(&self) -> Result<(BranchWeights, Classifier), BaseError> {
        self.model.trained(&self.probe)
    }
}
