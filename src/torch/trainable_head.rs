//! A deep head while it learns: private layers on maps of the trunk, then a linear classifier of standardised features.

use std::collections::BTreeMap;

use tch::{Kind, TchError, Tensor, no_grad_guard};

use super::{
    adam::{self, Learner},
    trainable_branch::TrainableBranch,
};
use crate::base::{Architecture, BaseError, BranchTensor, BranchWeights, FeatureSet};

/// Step sizes of Adam at the start of the cosine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    pub classifier: f64,
    pub convolutions: f64,
}

/// Rows to learn from or to judge.
#[derive(Debug, Default)]
pub struct Rows {
    /// `[rows, channels, height, width]`
    pub maps: Vec<f32>,
    /// `[rows, width]`: what the features have from below the branch; no width with `gap`.
    pub from_trunk: Vec<f32>,
    pub classes: Vec<i64>,
    /// How much each row counts; 1 on average over all.
    pub weights: Vec<f32>,
}

/// The linear classifier from which a deep head starts, and the scaling of the features that it reads.
#[derive(Debug, Clone, Copy)]
pub struct LinearStart<'a> {
    /// `[classes, width]`, of standardised features
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

/// Private layers and a classifier that learn together by Adam.
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
    /// Starts from the linear classifier that was fitted on the features of these layers (LP-FT, Kumar et al. 2022).
    ///
    /// # Errors
    /// If the weights are not those of private layers of this architecture, or libtorch fails.
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

    /// One step down the gradient of the mean weighted cross-entropy plus `l2 / 2` times the squared weights of the
    /// classifier; gives the cross-entropy before it. `number` counts from 1.
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

    /// The class with the largest logit of each row.
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

    /// All that a step changes, by name: weights and what Adam remembers.
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

    /// Goes back to an earlier [`state`](Self::state); nothing is changed unless all of it is there.
    ///
    /// # Errors
    /// If a tensor is missing or has another shape.
    pub fn restore(&mut self, state: &BTreeMap<String, BranchTensor>) -> Result<(), BaseError> {
        let current: Vec<(String, Tensor)> =
            self.learners.iter().flat_map(Learner::state).collect();
        let kept = current.iter().map(|(name, tensor)| {
            let kept =
                state.get(name).ok_or_else(|| TchError::Convert(format!("no tensor {name}")))?;
            Tensor::f_from_slice(&kept.values)?.f_view_as(tensor)
        });
        let kept = kept.collect::<Result<Vec<Tensor>, TchError>>()?;
        let _guard = no_grad_guard();
        for ((_, tensor), kept) in current.iter().zip(kept) {
            tensor.shallow_clone().f_copy_(&kept)?;
        }
        Ok(())
    }

    /// The private layers as they are now.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn layers(&self) -> Result<BranchWeights, BaseError> {
        Ok(self.branch.weights()?)
    }

    /// Weight `[classes, width]` and bias `[classes]` of the classifier of standardised features.
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
