//! A deep head while it learns: private layers on maps of the trunk, then a linear classifier of standardised features.

use tch::{Kind, Tensor, no_grad_guard};

use super::adam::{self, Learner, State};
use crate::{
    base::{Architecture, BaseError, TrainableBranch},
    branch::BranchWeights,
    features::FeatureSet,
    train::{Classifier, convex_fit::Standardised},
};

/// Step sizes of Adam at the start of the cosine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rates {
    pub(super) classifier: f64,
    pub(super) convolutions: f64,
}

/// Rows to learn from or to judge.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// `[rows, channels, height, width]`
    pub(super) maps: Vec<f32>,
    /// `[rows, width]`: what the features have from below the branch; no width with `gap`.
    pub(super) from_trunk: Vec<f32>,
    pub(super) classes: Vec<i64>,
    /// How much each row counts; 1 on average over all.
    pub(super) weights: Vec<f32>,
}

#[derive(Debug)]
pub(super) struct Model {
    branch: TrainableBranch,
    set: FeatureSet,
    map_shape: [usize; 3],
    /// `[classes, width]`
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    deviation: Tensor,
    l2: f64,
    learners: Vec<Learner>,
}

impl Model {
    /// Starts from the linear classifier that was fitted on the features of these layers (LP-FT, Kumar et al. 2022).
    pub(super) fn new(
        architecture: Architecture,
        start: &BranchWeights,
        probe: &Standardised<'_>,
        set: FeatureSet,
        map_shape: [usize; 3],
        l2: f64,
        rates: Rates,
    ) -> Result<Self, BaseError> {
        let branch = TrainableBranch::new(architecture, start)?;
        let floats = |values: &[f64]| Tensor::f_from_slice(values)?.f_to_kind(Kind::Float);
        let (mean, deviation) = probe.scaling.mean_and_deviation();
        let weight = floats(&probe.weight)?.f_view([-1, mean.len() as i64])?.f_set_requires_grad(true)?;
        let bias = floats(&probe.bias)?.f_set_requires_grad(true)?;
        let mut learners = vec![
            Learner::new("classifier.weight", &weight, rates.classifier)?,
            Learner::new("classifier.bias", &bias, rates.classifier)?,
        ];
        for (name, parameter) in branch.parameters() {
            learners.push(Learner::new(name, parameter, rates.convolutions)?);
        }
        let (mean, deviation) = (floats(mean)?, floats(deviation)?);
        Ok(Self { branch, set, map_shape, weight, bias, mean, deviation, l2, learners })
    }

    /// One step down the gradient of the mean weighted cross-entropy plus `l2 / 2` times the squared weights of the
    /// classifier; gives the cross-entropy before it. `number` counts from 1.
    pub(super) fn step(&mut self, rows: &Rows, number: i32, rate_factor: f64) -> Result<f64, BaseError> {
        let classes = Tensor::f_from_slice(&rows.classes)?;
        let weights = Tensor::f_from_slice(&rows.weights)?;
        let picked = self.logits(rows)?.f_log_softmax(-1, Kind::Float)?;
        let picked = picked.f_gather(1, &classes.f_unsqueeze(1)?, false)?.f_squeeze()?;
        let loss = picked.f_mul(&weights)?.f_mean(Kind::Float)?.f_neg()?;
        let penalty = self.weight.f_square()?.f_sum(Kind::Float)?.f_mul_scalar(self.l2 / 2.0)?;
        adam::step(&mut self.learners, &loss.f_add(&penalty)?, number, rate_factor)?;
        Ok(loss.f_double_value(&[])?)
    }

    /// The class with the largest logit of each row.
    pub(super) fn answers(&self, rows: &Rows) -> Result<Vec<usize>, BaseError> {
        let _guard = no_grad_guard();
        let answers = self.logits(rows)?.f_argmax(-1, false)?;
        Ok(Vec::<i64>::try_from(&answers)?.into_iter().map(|class| class as usize).collect())
    }

    fn logits(&self, rows: &Rows) -> Result<Tensor, BaseError> {
        let [channels, height, width] = self.map_shape.map(|side| side as i64);
        let maps = Tensor::f_from_slice(&rows.maps)?.f_view([-1, channels, height, width])?;
        let (average, maximum) = self.branch.pooled(&maps)?;
        let features = match self.set {
            FeatureSet::Gap => average,
            FeatureSet::Pyramid => {
                let from_trunk =
                    Tensor::f_from_slice(&rows.from_trunk)?.f_view([rows.classes.len() as i64, -1])?;
                Tensor::f_cat(&[from_trunk, average, maximum], 1)?
            }
        };
        let standardised = features.f_sub(&self.mean)?.f_div(&self.deviation)?;
        Ok(standardised.f_linear(&self.weight, Some(&self.bias))?)
    }

    /// All that a step changes, by name.
    pub(super) fn state(&self) -> State {
        self.learners.iter().flat_map(Learner::state).collect()
    }

    /// Private layers and the classifier of their raw features.
    pub(super) fn trained(&self, probe: &Standardised<'_>) -> Result<(BranchWeights, Classifier), BaseError> {
        let doubles = |tensor: &Tensor| {
            Vec::<f64>::try_from(tensor.f_detach()?.f_to_kind(Kind::Double)?.f_flatten(0, -1)?)
        };
        let (weight, bias) = probe.scaling.fold(&doubles(&self.weight)?, &doubles(&self.bias)?);
        Ok((self.branch.weights()?, Classifier { weight, bias }))
    }
}
