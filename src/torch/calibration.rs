//! Measures the activation ranges that int8 needs, on pictures like those to be classified.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde::Serialize;
use tch::{TchError, Tensor};

use super::{
    BuildError, Network,
    folding::FoldedConvolution,
    kernels::{self, Convolution, Kernels},
    pooling::Pooled,
};
use crate::{
    base::{
        ActivationRanges, Base, BaseError, BaseWeights, Device, DeviceId, FeatureBatch, Outputs,
        Precision, PrecisionChoice, Range,
        layers::{IMAGE, MaxPool},
    },
    image::PreparedImage,
};

/// The error of one percentile on the held-out pictures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PercentileError {
    pub percentile: f64,
    /// RMS difference between int8 and fp32 `pyramid` features, over the RMS of the fp32 features.
    pub error: f64,
}

/// A maximum spends codes on every outlier; too low a percentile cuts off what matters.
const PERCENTILES: [f64; 4] = [99.9, 99.99, 99.999, 100.0];
/// Values kept per map and picture.
const SAMPLES_PER_MAP: usize = 4096;
const BATCH: usize = 8;

/// Measures the ranges on every other picture and chooses the best percentile on those in between.
///
/// The best is the one whose int8 features differ least from fp32. `progress` receives how many
/// pictures are done and their total, counting each picture once per pass over it.
///
/// # Errors
/// [`BuildError`] for fewer than two pictures, or if the network cannot be built or run.
pub fn calibrate(
    weights: &BaseWeights,
    pictures: &[PreparedImage],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<(ActivationRanges, Vec<PercentileError>), BuildError> {
    let measured: Vec<&PreparedImage> = pictures.iter().step_by(2).collect();
    let held_out: Vec<&PreparedImage> = pictures.iter().skip(1).step_by(2).collect();
    if held_out.is_empty() {
        return Err(BuildError::TooFewPictures { found: pictures.len() });
    }
    let passes = measured.len() + (1 + PERCENTILES.len()) * held_out.len();
    let mut done = 0;
    let samples = Samples::default();
    let fp32 = kernels::kernels(DeviceId::Cpu, Precision::Fp32, None)?;
    let recorder = Recorder { inner: fp32, samples: samples.clone() };
    let mut recording =
        Network::with_kernels(weights, Box::new(recorder), Precision::Fp32, DeviceId::Cpu)?;
    features(&mut recording, &measured, &mut |batch| {
        done += batch;
        progress(done, passes);
    })?;
    let mut exact = Network::new(weights, Device::Cpu, PrecisionChoice(Some(Precision::Fp32)))?;
    let expected = features(&mut exact, &held_out, &mut |batch| {
        done += batch;
        progress(done, passes);
    })?;
    let mut best: Option<(ActivationRanges, f64)> = None;
    let mut errors = Vec::new();
    let sorted = samples.sorted();
    for percentile in PERCENTILES {
        let ranges =
            sorted.iter().map(|(name, values)| (name.clone(), range(values, percentile))).collect();
        let ranges = ActivationRanges { percentile, images: measured.len(), ranges };
        let kernels = kernels::kernels(DeviceId::Cpu, Precision::Int8, Some(&ranges))?;
        let mut int8 = Network::with_kernels(weights, kernels, Precision::Int8, DeviceId::Cpu)?;
        let found = features(&mut int8, &held_out, &mut |batch| {
            done += batch;
            progress(done, passes);
        })?;
        let error = relative_error(&found, &expected);
        errors.push(PercentileError { percentile, error });
        if best.as_ref().is_none_or(|(_, least)| error < *least) {
            best = Some((ranges, error));
        }
    }
    let (ranges, _) = best.ok_or(BuildError::TooFewPictures { found: pictures.len() })?;
    Ok((ranges, errors))
}

fn features(
    network: &mut Network,
    pictures: &[&PreparedImage],
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<f32>, BaseError> {
    let mut features = Vec::new();
    for batch in pictures.chunks(BATCH) {
        let FeatureBatch { pyramid, .. } =
            network.forward(batch, Outputs { pyramid: true, map: false })?;
        features.extend(pyramid);
        progress(batch.len());
    }
    Ok(features)
}

fn relative_error(found: &[f32], expected: &[f32]) -> f64 {
    let square = |value: f32| f64::from(value) * f64::from(value);
    let difference: f64 = found.iter().zip(expected).map(|(a, b)| square(a - b)).sum();
    (difference / expected.iter().map(|value| square(*value)).sum::<f64>()).sqrt()
}

/// Returns the range that the percentile leaves of `sorted`, which must not be empty.
fn range(sorted: &[f32], percentile: f64) -> Range {
    let last = sorted.len().saturating_sub(1);
    let rank = (percentile / 100.0 * last as f64).round() as usize;
    let at = |rank: usize| sorted.get(rank).copied().unwrap_or_default();
    Range { least: at(last - rank).min(0.0), largest: at(rank) }
}

/// Sampled values of each map, by the name of the convolution that produced it.
#[derive(Debug, Clone, Default)]
struct Samples(Arc<Mutex<BTreeMap<String, Vec<f32>>>>);

impl Samples {
    /// Adds values spread evenly over the map, and always its largest and least.
    fn add(&self, name: &str, map: &Tensor) -> Result<(), TchError> {
        let map = map.f_contiguous()?;
        let mut values = vec![0.0f32; map.numel()];
        map.f_copy_data(&mut values, map.numel())?;
        let pictures = map.size().first().map_or(1, |pictures| (*pictures).max(1) as usize);
        let step = (values.len() / (pictures * SAMPLES_PER_MAP)).max(1);
        let largest = values.iter().copied().fold(f32::MIN, f32::max);
        let least = values.iter().copied().fold(f32::MAX, f32::min);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = all.entry(name.to_owned()).or_default();
        kept.extend(values.into_iter().step_by(step).chain([largest, least]));
        Ok(())
    }

    fn sorted(&self) -> BTreeMap<String, Vec<f32>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.values_mut().for_each(|values| values.sort_by(f32::total_cmp));
        std::mem::take(&mut *all)
    }
}

/// Kernels that delegate to others and sample every map.
#[derive(Debug)]
struct Recorder {
    inner: Box<dyn Kernels>,
    samples: Samples,
}

#[derive(Debug)]
struct Recorded {
    name: String,
    inner: Box<dyn Convolution>,
    samples: Samples,
}

impl Kernels for Recorder {
    fn arithmetic(&self) -> String {
        self.inner.arithmetic()
    }

    fn convolution(
        &self,
        folded: &FoldedConvolution,
        input_side: usize,
    ) -> Result<Box<dyn Convolution>, TchError> {
        let inner = self.inner.convolution(folded, input_side)?;
        Ok(Box::new(Recorded {
            name: folded.spec.name.clone(),
            inner,
            samples: self.samples.clone(),
        }))
    }

    fn input(&self, images: &[&PreparedImage]) -> Result<Tensor, TchError> {
        let input = self.inner.input(images)?;
        self.samples.add(IMAGE, &input)?;
        Ok(input)
    }

    fn max_pool(&self, x: &Tensor, pool: MaxPool) -> Result<Tensor, TchError> {
        self.inner.max_pool(x, pool)
    }

    fn pooled(&self, map: &Tensor, output: &str) -> Result<Pooled, TchError> {
        self.inner.pooled(map, output)
    }

    fn values(&self, map: &Tensor, output: &str) -> Result<Vec<f32>, TchError> {
        self.inner.values(map, output)
    }
}

impl Recorded {
    fn keep(&self, map: Tensor) -> Result<Tensor, TchError> {
        self.samples.add(&self.name, &map)?;
        Ok(map)
    }
}

impl Convolution for Recorded {
    fn linear(&self, x: &Tensor) -> Result<Tensor, TchError> {
        self.keep(self.inner.linear(x)?)
    }

    fn relu(&self, x: &Tensor) -> Result<Tensor, TchError> {
        self.keep(self.inner.relu(x)?)
    }

    fn add_relu(&self, x: &Tensor, other: Tensor) -> Result<Tensor, TchError> {
        self.keep(self.inner.add_relu(x, other)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentile_trims_both_ends_and_rectified_ranges_start_at_zero() {
        let values: Vec<f32> = (-50..=50).map(|value| value as f32).collect();
        assert_eq!(range(&values, 100.0), Range { least: -50.0, largest: 50.0 });
        assert_eq!(range(&values, 90.0), Range { least: -40.0, largest: 40.0 });
        assert_eq!(range(&[0.0, 1.0, 2.0], 100.0), Range { least: 0.0, largest: 2.0 });
        assert_eq!(range(&[1.0, 2.0], 100.0).least, 0.0);
    }
}
