//! Softmax regression by Adam on standardised features, with early stopping: torchvision's `fc` replaced by a new linear
//! layer and trained at 1e-3 while the base stays frozen, only that the base has already run.

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::adam::Adam;
use crate::head::dot;

/// A feature that varies less than this over the training pictures is a constant: it is shifted and not scaled.
const LEAST_DEVIATION: f64 = 1e-6;

/// How a class with few pictures counts beside one with many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClassWeight {
    /// Pictures of class c count `N / (C n_c)`: all classes together weigh the same.
    #[default]
    Balanced,
    /// Every picture counts one.
    None,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no class weight: balanced or none is wanted")]
pub struct UnknownClassWeight {
    pub text: String,
}

impl std::str::FromStr for ClassWeight {
    type Err = UnknownClassWeight;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "balanced" => Ok(Self::Balanced),
            "none" => Ok(Self::None),
            _ => Err(UnknownClassWeight { text: text.to_owned() }),
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct FitOptions {
    /// At most so many passes over the training pictures.
    pub epochs: usize,
    /// Stops after so many epochs without a lower validation loss.
    pub patience: usize,
    pub batch_size: usize,
    pub learning_rate: f32,
    pub class_weight: ClassWeight,
    /// Of the order in which pictures are seen.
    pub seed: u64,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self {
            epochs: 300,
            patience: 20,
            batch_size: 32,
            learning_rate: 1e-3,
            class_weight: ClassWeight::Balanced,
            seed: 0,
        }
    }
}

/// Features and classes of pictures, one row each.
#[derive(Debug, Clone, Default)]
pub struct Examples {
    /// `[pictures, width]`
    pub features: Vec<f32>,
    /// `[pictures]`
    pub classes: Vec<usize>,
    pub width: usize,
}

impl Examples {
    pub fn push(&mut self, features: &[f32], class: usize) {
        self.features.extend_from_slice(features);
        self.classes.push(class);
    }

    /// Each picture's features and class.
    pub fn rows(&self) -> impl Iterator<Item = (&[f32], usize)> {
        self.features.chunks_exact(self.width.max(1)).zip(self.classes.iter().copied())
    }
}

/// What an epoch came to. Losses are mean cross-entropies in nats, weighted by class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Epoch {
    /// From 1.
    pub epoch: usize,
    pub most_epochs: usize,
    pub train_loss: f64,
    pub validation_loss: f64,
    /// Share of validation pictures whose most probable class is theirs.
    pub validation_accuracy: f64,
}

/// A classifier of raw features.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    /// `[classes, width]`
    pub weight: Vec<f32>,
    /// `[classes]`
    pub bias: Vec<f32>,
    /// The epoch whose parameters these are.
    pub best: Epoch,
    pub epochs_run: usize,
}

/// Fits on `train`, keeps the parameters of the epoch with the lowest loss on `validation`. The same input gives the same
/// numbers. `None` if no epoch had a finite loss: the learning rate is too high.
pub fn fit(
    train: &Examples,
    validation: &Examples,
    classes: usize,
    options: &FitOptions,
    on_epoch: &mut dyn FnMut(&Epoch),
) -> Option<Fit> {
    let scaling = Scaling::of(train);
    let (train, validation) = (scaling.apply(train), scaling.apply(validation));
    let class_weights = class_weights(&train.classes, classes, options.class_weight);
    let mut model = Softmax::new(classes, train.width);
    let mut adam = Adam::new(model.parameters.len(), options.learning_rate);
    let mut random = ChaCha8Rng::seed_from_u64(options.seed);
    let mut gradient = vec![0.0f32; model.parameters.len()];
    let rows: Vec<(&[f32], usize)> = train.rows().collect();
    let mut order: Vec<usize> = (0..rows.len()).collect();
    let mut best: Option<(Epoch, Softmax)> = None;
    let mut epochs_run = 0;
    for epoch in 1..=options.epochs {
        order.shuffle(&mut random);
        let mut train_loss = 0.0;
        for batch in order.chunks(options.batch_size.max(1)) {
            gradient.fill(0.0);
            for &index in batch {
                let (features, class) = rows[index];
                // Divided by the number of pictures and not by their weights, so that batches add up to the whole.
                let weight = class_weights[class] / batch.len() as f32;
                train_loss += model.add_gradient(features, class, weight, &mut gradient) * batch.len() as f64;
            }
            adam.step(&mut model.parameters, &gradient);
        }
        let (validation_loss, validation_accuracy) = model.evaluate(&validation, &class_weights);
        let train_loss = train_loss / rows.len() as f64;
        let seen =
            Epoch { epoch, most_epochs: options.epochs, train_loss, validation_loss, validation_accuracy };
        on_epoch(&seen);
        epochs_run = epoch;
        let lowest = best.as_ref().map_or(f64::INFINITY, |(best, _)| best.validation_loss);
        if validation_loss < lowest {
            best = Some((seen, model.clone()));
        }
        let since = epoch - best.as_ref().map_or(0, |(best, _)| best.epoch);
        if since >= options.patience.max(1) {
            break;
        }
    }
    let (best, model) = best?;
    let (weight, bias) = scaling.fold(&model);
    Some(Fit { weight, bias, best, epochs_run })
}

fn class_weights(of_pictures: &[usize], classes: usize, class_weight: ClassWeight) -> Vec<f32> {
    let count = |class| of_pictures.iter().filter(|&&of_picture| of_picture == class).count().max(1);
    (0..classes)
        .map(|class| match class_weight {
            ClassWeight::Balanced => of_pictures.len() as f32 / (classes * count(class)) as f32,
            ClassWeight::None => 1.0,
        })
        .collect()
}

/// Mean and deviation of each feature over the training pictures.
struct Scaling {
    mean: Vec<f64>,
    deviation: Vec<f64>,
}

impl Scaling {
    fn of(examples: &Examples) -> Self {
        let count = examples.classes.len().max(1) as f64;
        let mean_over = |value: &dyn Fn(usize, f32) -> f64| {
            let mut sums = vec![0.0f64; examples.width];
            for (row, _) in examples.rows() {
                sums.iter_mut().zip(row).enumerate().for_each(|(i, (sum, &x))| *sum += value(i, x));
            }
            sums.into_iter().map(|sum| sum / count).collect::<Vec<f64>>()
        };
        let mean = mean_over(&|_, x| f64::from(x));
        let variance = mean_over(&|i, x| (f64::from(x) - mean[i]).powi(2));
        let scale = |variance: f64| if variance.sqrt() < LEAST_DEVIATION { 1.0 } else { variance.sqrt() };
        Self { deviation: variance.into_iter().map(scale).collect(), mean }
    }

    fn apply(&self, examples: &Examples) -> Examples {
        let mut scaled = Examples { width: examples.width, ..Examples::default() };
        for (row, class) in examples.rows() {
            let columns = row.iter().zip(&self.mean).zip(&self.deviation);
            let row: Vec<f32> =
                columns.map(|((&x, mean), deviation)| ((f64::from(x) - mean) / deviation) as f32).collect();
            scaled.push(&row, class);
        }
        scaled
    }

    /// `w (x - mean) / deviation + b` is linear in `x` again.
    fn fold(&self, model: &Softmax) -> (Vec<f32>, Vec<f32>) {
        let (mut weight, mut bias) = (Vec::with_capacity(model.parameters.len()), Vec::new());
        for (row, b) in model.rows() {
            let mut shifted = f64::from(b);
            for ((&w, mean), deviation) in row.iter().zip(&self.mean).zip(&self.deviation) {
                let folded = f64::from(w) / deviation;
                shifted -= folded * mean;
                weight.push(folded as f32);
            }
            bias.push(shifted as f32);
        }
        (weight, bias)
    }
}

/// Weights `[classes, width]`, then biases `[classes]`, in one row. The loss is convex, so it may start at zero.
#[derive(Clone)]
struct Softmax {
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
        let logits: Vec<f64> = self.rows().map(|(row, bias)| f64::from(dot(row, features) + bias)).collect();
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = logits.into_iter().map(|logit| (logit - largest).exp()).collect();
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / sum).collect()
    }

    /// Adds `weight` times the gradient of the cross-entropy, and returns `weight` times the cross-entropy.
    fn add_gradient(&self, features: &[f32], class: usize, weight: f32, gradient: &mut [f32]) -> f64 {
        let probabilities = self.probabilities(features);
        let (rows, biases) = gradient.split_at_mut(self.classes * self.width);
        let targets = rows.chunks_exact_mut(self.width.max(1)).zip(biases).zip(&probabilities).enumerate();
        for (of_row, ((row, bias), probability)) in targets {
            let error = weight * (*probability - if of_row == class { 1.0 } else { 0.0 }) as f32;
            row.iter_mut().zip(features).for_each(|(sum, x)| *sum += error * x);
            *bias += error;
        }
        f64::from(weight) * cross_entropy(&probabilities, class)
    }

    /// Mean weighted loss, and the share that is right.
    fn evaluate(&self, examples: &Examples, class_weights: &[f32]) -> (f64, f64) {
        let (mut loss, mut right) = (0.0, 0usize);
        for (features, class) in examples.rows() {
            let probabilities = self.probabilities(features);
            loss += f64::from(class_weights[class]) * cross_entropy(&probabilities, class);
            right += usize::from(probabilities.iter().all(|other| *other <= probabilities[class]));
        }
        let count = examples.classes.len() as f64;
        (loss / count, right as f64 / count)
    }
}

/// A probability that rounds to zero still has a finite loss. NaN stays NaN.
fn cross_entropy(probabilities: &[f64], class: usize) -> f64 {
    -probabilities[class].clamp(f64::MIN_POSITIVE, 1.0).ln()
}

#[cfg(test)]
mod tests;
