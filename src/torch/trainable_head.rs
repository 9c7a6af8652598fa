//! A deep head in training: private layers on the trunk's maps, then a linear classifier of
//! standardised features.

use std::collections::BTreeMap;

use tch::{Kind, TchError, Tensor, no_grad_guard};

use super::{
    adam::{self, Learner},
    trainable_branch::TrainableBranch,
};
use crate::base::{Architecture, BaseError, BranchTensor, BranchWeights, FeatureSet};

/// Adam's learning rates at the start of the cosine schedule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    pub classifier: f64,
    pub convolutions: f64,
}

/// Rows to train on or to classify.
#[derive(Debug, Default)]
pub struct Rows {
    /// `[rows, channels, height, width]`
    pub maps: Vec<f32>,
    /// `[rows, width]`: the features from below the branch; width 0 with `gap`.
    pub from_trunk: Vec<f32>,
    pub classes: Vec<i64>,
    /// Weight of each row; 1 on average over all.
    pub weights: Vec<f32>,
}

/// The linear classifier that a deep head starts from, and the scaling of its features.
#[derive(Debug, Clone, Copy)]
pub struct LinearStart<'a> {
    /// `[classes, width]`, for standardised features
    pub weight: &'a [f64],
    /// `[classes]`
    pub bias: &'a [f64],
    /// `[width]`
    pub mean: &'a [f64],
    /// `[width]`
    pub deviation: &'a [f64],
    /// Strength of the penalty on the squared weights.
    pub l2: f64,
}

/// Private layers and a classifier, trained together by Adam.
#[derive(Debug)]
pub struct TrainableHead {
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

impl TrainableHead {
    /// Starts from a linear classifier fitted on these layers' features (LP-FT, Kumar et al. 2022).
    ///
    /// # Errors
    /// If the weights do not fit the private layers of this architecture, or libtorch fails.
    pub fn new(
        architecture: Architecture,
        layers: &BranchWeights,
        start: LinearStart<'_>,
        set: FeatureSet,
        map_shape: [usize; 3],
        rates: Rates,
    ) -> Result<Self, BaseError> {
        let branch = TrainableBranch::new(architecture, layers)?;
        let floats = |values: &[f64]| Tensor::f_from_slice(values)?.f_to_kind(Kind::Float);
        let LinearStart { weight, bias, mean, deviation, l2 } = start;
        let weight = floats(weight)?.f_view([-1, mean.len() as i64])?.f_set_requires_grad(true)?;
        let bias = floats(bias)?.f_set_requires_grad(true)?;
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

    /// Takes one step and returns the cross-entropy before it; `number` counts from 1.
    ///
    /// The loss is the mean weighted cross-entropy plus `l2 / 2` times the sum of the classifier's
    /// squared weights.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn step(&mut self, rows: &Rows, number: i32, rate_factor: f64) -> Result<f64, BaseError> {
        let classes = Tensor::f_from_slice(&rows.classes)?;
        let weights = Tensor::f_from_slice(&rows.weights)?;
        let picked = self.logits(rows)?.f_log_softmax(-1, Kind::Float)?;
        let picked = picked.f_gather(1, &classes.f_unsqueeze(1)?, false)?.f_squeeze()?;
        let loss = picked.f_mul(&weights)?.f_mean(Kind::Float)?.f_neg()?;
        let penalty = self.weight.f_square()?.f_sum(Kind::Float)?.f_mul_scalar(self.l2 / 2.0)?;
        adam::step(&mut self.learners, &loss.f_add(&penalty)?, number, rate_factor)?;
        Ok(loss.f_double_value(&[])?)
    }

    /// Returns the class with the largest logit for each row.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn answers(&self, rows: &Rows) -> Result<Vec<usize>, BaseError> {
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
                let from_trunk = Tensor::f_from_slice(&rows.from_trunk)?
                    .f_view([rows.classes.len() as i64, -1])?;
                Tensor::f_cat(&[from_trunk, average, maximum], 1)?
            }
        };
        let standardised = features.f_sub(&self.mean)?.f_div(&self.deviation)?;
        Ok(standardised.f_linear(&self.weight, Some(&self.bias))?)
    }

    /// Returns everything that a step changes, by name: weights and Adam's moments.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn state(&self) -> Result<BTreeMap<String, BranchTensor>, BaseError> {
        let state = self.learners.iter().flat_map(Learner::state).map(|(name, tensor)| {
            let shape = tensor.size().into_iter().map(|side| side as usize).collect();
            let mut values = vec![0.0f32; tensor.numel()];
            tensor.f_detach()?.f_contiguous()?.f_copy_data(&mut values, tensor.numel())?;
            Ok((name, BranchTensor { shape, values }))
        });
        Ok(state.collect::<Result<_, TchError>>()?)
    }

    /// Restores an earlier [`state`](Self::state); changes nothing unless it is complete.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn restore(&mut self, state: &BTreeMap<String, BranchTensor>) -> Result<(), BaseError> {
        let current: Vec<(String, Tensor)> =
            self.learners.iter().flat_map(Learner::state).collect();
        let saved = current.iter().map(|(name, tensor)| {
            let saved = state
                .get(name)
                .ok_or_else(|| TchError::Convert(format!("the saved state lacks tensor {name}")))?;
            Tensor::f_from_slice(&saved.values)?.f_view_as(tensor)
        });
        let saved = saved.collect::<Result<Vec<Tensor>, TchError>>()?;
        let _guard = no_grad_guard();
        for ((_, tensor), saved) in current.iter().zip(saved) {
            tensor.shallow_clone().f_copy_(&saved)?;
        }
        Ok(())
    }

    /// Returns the private layers as they are now.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn layers(&self) -> Result<BranchWeights, BaseError> {
        Ok(self.branch.weights()?)
    }

    /// Returns weight `[classes, width]` and bias `[classes]`, for standardised features.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn classifier(&self) -> Result<(Vec<f64>, Vec<f64>), BaseError> {
        let doubles = |tensor: &Tensor| {
            Vec::<f64>::try_from(tensor.f_detach()?.f_to_kind(Kind::Double)?.f_flatten(0, -1)?)
        };
        Ok((doubles(&self.weight)?, doubles(&self.bias)?))
    }
}
