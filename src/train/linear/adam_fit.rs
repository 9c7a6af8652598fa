//! `--solver adam`: softmax regression by Adam on standardised features, with early stopping.
//!
//! Equivalent to replacing torchvision's `fc` by a new linear layer and training it at 1e-3 on a
//! frozen base, except that the base has already run.

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::{
    Classifier,
    adam::Adam,
    examples::{ClassWeight, Example, Examples},
    scaling::Scaling,
};
use crate::head::dot;

/// The settings of [`fit_by_adam`].
#[derive(Debug, Clone, PartialEq)]
pub struct AdamOptions {
    /// Maximum number of passes over the training pictures.
    pub epochs: usize,
    /// Number of epochs without a lower validation loss after which training stops.
    pub patience: usize,
    pub batch_size: usize,
    pub learning_rate: f32,
    /// Seed of the order of the pictures.
    pub seed: u64,
}

impl Default for AdamOptions {
    fn default() -> Self {
        Self { epochs: 300, patience: 20, batch_size: 32, learning_rate: 1e-3, seed: 0 }
    }
}

/// The result of an epoch; losses are mean cross-entropies in nats, weighted by class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Epoch {
    /// From 1.
    pub epoch: usize,
    pub most_epochs: usize,
    pub train_loss: f64,
    pub validation_loss: f64,
    /// Share of the validation pictures whose most probable class is their own.
    pub validation_accuracy: f64,
}

/// A fitted classifier and how it was fitted.
#[derive(Debug, Clone, PartialEq)]
pub struct AdamFit {
    pub classifier: Classifier,
    /// The epoch that the parameters are from.
    pub best: Epoch,
    pub epochs_run: usize,
}

/// Fits on `train` and keeps the parameters of the epoch with the lowest loss on `validation`.
///
/// Deterministic. Returns `None` if no epoch had a finite loss: the learning rate is too high.
pub fn fit_by_adam(
    train: &Examples,
    validation: &Examples,
    classes: usize,
    class_weight: ClassWeight,
    options: &AdamOptions,
    on_epoch: &mut dyn FnMut(&Epoch),
) -> Option<AdamFit> {
    let scaling = Scaling::of(train);
    let of_class = train.class_weights(classes, class_weight);
    let [train, validation] =
        [train, validation].map(|examples| standardised(&scaling, examples, &of_class));
    let mut model = Softmax::new(classes, train.width);
    let mut adam = Adam::new(model.parameters.len(), options.learning_rate);
    let mut random = ChaCha8Rng::seed_from_u64(options.seed);
    let mut gradient = vec![0.0f32; model.parameters.len()];
    let rows: Vec<Example<'_>> = train.rows().collect();
    let mut order: Vec<usize> = (0..rows.len()).collect();
    let mut best: Option<(Epoch, Softmax)> = None;
    let mut epochs_run = 0;
    for epoch in 1..=options.epochs {
        order.shuffle(&mut random);
        let mut train_loss = 0.0;
        for batch in order.chunks(options.batch_size.max(1)) {
            gradient.fill(0.0);
            for &index in batch {
                let Example { features, class, weight } = rows[index];
                // Divided by the number of rows, not by their weights, so that batches add up.
                let weight = weight / batch.len() as f32;
                train_loss +=
                    model.add_gradient(features, class, weight, &mut gradient) * batch.len() as f64;
            }
            adam.step(&mut model.parameters, &gradient);
        }
        let (validation_loss, validation_accuracy) = model.evaluate(&validation);
        let train_loss = train_loss / rows.len() as f64;
        let result = Epoch {
            epoch,
            most_epochs: options.epochs,
            train_loss,
            validation_loss,
            validation_accuracy,
        };
        on_epoch(&result);
        epochs_run = epoch;
        let lowest = best.as_ref().map_or(f64::INFINITY, |(best, _)| best.validation_loss);
        if validation_loss < lowest {
            best = Some((result, model.clone()));
        }
        let since = epoch - best.as_ref().map_or(0, |(best, _)| best.epoch);
        if since >= options.patience.max(1) {
            break;
        }
    }
    let (best, model) = best?;
    let parameters: Vec<f64> = model.parameters.iter().map(|value| f64::from(*value)).collect();
    let (weight, bias) = parameters.split_at(classes * train.width);
    let (weight, bias) = scaling.fold(weight, bias);
    Some(AdamFit { classifier: Classifier { weight, bias }, best, epochs_run })
}

/// Standardises the features and multiplies each row's weight by its class's.
fn standardised(scaling: &Scaling, examples: &Examples, class_weights: &[f64]) -> Examples {
    Examples {
        features: scaling.apply(examples).into_iter().map(|value| value as f32).collect(),
        classes: examples.classes.clone(),
        weights: examples.rows().map(|row| row.weight * class_weights[row.class] as f32).collect(),
        width: examples.width,
    }
}

/// A linear softmax model, started at zero because its loss is convex.
#[derive(Clone)]
struct Softmax {
    /// Weights `[classes, width]`, then biases `[classes]`.
    parameters: Vec<f32>,
    classes: usize,
    width: usize,
}

impl Softmax {
    fn new(classes: usize, width: usize) -> Self {
        Self { parameters: vec![0.0; classes * (width + 1)], classes, width }
    }

    fn rows(&self) -> impl Iterator<Item = (&[f32], f32)> {
        let (weight, bias) = self.parameters.split_at(self.classes * self.width);
        weight.chunks_exact(self.width.max(1)).zip(bias.iter().copied())
    }

    fn probabilities(&self, features: &[f32]) -> Vec<f64> {
        let logits: Vec<f64> =
            self.rows().map(|(row, bias)| f64::from(dot(row, features) + bias)).collect();
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = logits.into_iter().map(|logit| (logit - largest).exp()).collect();
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / sum).collect()
    }

    /// Returns `weight` times the cross-entropy, and adds its gradient to `gradient`.
    fn add_gradient(
        &self,
        features: &[f32],
        class: usize,
        weight: f32,
        gradient: &mut [f32],
    ) -> f64 {
        let probabilities = self.probabilities(features);
        let (rows, biases) = gradient.split_at_mut(self.classes * self.width);
        let targets =
            rows.chunks_exact_mut(self.width.max(1)).zip(biases).zip(&probabilities).enumerate();
        for (of_row, ((row, bias), probability)) in targets {
            let error = weight * (*probability - if of_row == class { 1.0 } else { 0.0 }) as f32;
            row.iter_mut().zip(features).for_each(|(sum, x)| *sum += error * x);
            *bias += error;
        }
        f64::from(weight) * cross_entropy(&probabilities, class)
    }

    /// Returns the mean weighted loss and the accuracy.
    fn evaluate(&self, examples: &Examples) -> (f64, f64) {
        let (mut loss, mut right) = (0.0, 0usize);
        for Example { features, class, weight } in examples.rows() {
            let probabilities = self.probabilities(features);
            loss += f64::from(weight) * cross_entropy(&probabilities, class);
            right += usize::from(probabilities.iter().all(|other| *other <= probabilities[class]));
        }
        let count = examples.len() as f64;
        (loss / count, right as f64 / count)
    }
}

/// Returns the cross-entropy, finite even if the probability rounds to zero; NaN stays NaN.
fn cross_entropy(probabilities: &[f64], class: usize) -> f64 {
    -probabilities[class].clamp(f64::MIN_POSITIVE, 1.0).ln()
}

#[cfg(test)]
mod tests;
