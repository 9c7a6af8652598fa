//! Base files of a quarter of the size, with 8-bit convolutions. Storage only: the network computes
//! in f32.
//!
//! Rounding is symmetric, with one scale per output channel (Krishnamoorthi, "Quantizing deep
//! convolutional networks for efficient inference", 2018, section 3.1).

use std::{collections::BTreeMap, path::Path};

use super::{BaseWeights, WeightsError};
use crate::tensor_file::{Codes, NewCodes, NewTensor, TensorFile, TensorFileError};

/// Format of a base file with i8 convolutions, each with a tensor `<name>.scale [outputs] f32`.
pub(super) const INT8_FORMAT: &str = "turret-base-int8/1";
/// Largest code: one in -127..=127 stands for `code * scale`; -128 is unused.
const LARGEST_CODE: f32 = 127.0;

/// A tensor `[channels, ...]` in 8 bits.
#[derive(Debug)]
struct QuantisedTensor {
    codes: Vec<i8>,
    /// `[channels]`
    scales: Vec<f32>,
}

impl QuantisedTensor {
    /// Rounds to the nearest code; no value moves by more than half its channel's scale.
    fn new(values: &[f32], channels: usize) -> Self {
        let (mut codes, mut scales) =
            (Vec::with_capacity(values.len()), Vec::with_capacity(channels));
        for channel in values.chunks_exact((values.len() / channels.max(1)).max(1)) {
            let largest = channel.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
            let scale = largest / LARGEST_CODE;
            scales.push(scale);
            let code = |value: &f32| if scale > 0.0 { (value / scale).round() as i8 } else { 0 };
            codes.extend(channel.iter().map(code));
        }
        Self { codes, scales }
    }

    fn expand(&self) -> Vec<f32> {
        let of_channel = (self.codes.len() / self.scales.len().max(1)).max(1);
        let channels = self.codes.chunks_exact(of_channel).zip(&self.scales);
        channels
            .flat_map(|(codes, scale)| codes.iter().map(move |code| f32::from(*code) * scale))
            .collect()
    }
}

/// The end of the origin of such weights.
const COMPRESSED: &str = ", compressed to 8 bits";

/// Weights with convolutions rounded to 8 bits: a quarter of the size on disk.
#[derive(Debug)]
pub struct Int8Weights {
    convolutions: BTreeMap<String, QuantisedTensor>,
    /// The weights with which a server that reads the file computes.
    expanded: BaseWeights,
}

impl BaseWeights {
    /// Rounds the convolutions to 8 bits with one scale per output channel; BatchNorm stays f32.
    ///
    /// The result is another base with another digest: its features differ slightly.
    pub fn compressed(&self) -> Int8Weights {
        let mut tensors = self.tensors.clone();
        let mut convolutions = BTreeMap::new();
        for (name, shape) in self.architecture.parameters() {
            if is_convolution(&shape) {
                let quantised = QuantisedTensor::new(self.tensor(&name), shape[0]);
                tensors.insert(name.clone(), quantised.expand());
                convolutions.insert(name, quantised);
            }
        }
        let before = self.origin.strip_suffix(COMPRESSED).unwrap_or(&self.origin);
        let origin = format!("{before}{COMPRESSED}");
        Int8Weights { convolutions, expanded: Self::new(self.architecture, tensors, origin) }
    }
}

impl Int8Weights {
    /// Returns what [`BaseWeights::load`] reads from the saved file.
    pub fn expanded(&self) -> &BaseWeights {
        &self.expanded
    }

    /// Writes a base file, as [`BaseWeights::save`] does.
    ///
    /// # Errors
    /// As [`BaseWeights::save`].
    pub fn save(&self, path: &Path) -> Result<(), WeightsError> {
        let parameters = self.expanded.architecture.parameters();
        let scales: Vec<_> = self.convolutions.keys().map(|name| scale_of(name)).collect();
        let mut tensors: Vec<_> = parameters
            .iter()
            .filter(|(_, shape)| !is_convolution(shape))
            .map(|(name, shape)| NewTensor { name, shape, values: self.expanded.tensor(name) })
            .collect();
        let channels: Vec<_> =
            self.convolutions.values().map(|convolution| [convolution.scales.len()]).collect();
        tensors.extend(self.convolutions.values().zip(&scales).zip(&channels).map(
            |((convolution, name), shape)| NewTensor { name, shape, values: &convolution.scales },
        ));
        let codes: Vec<_> = parameters
            .iter()
            .filter_map(|(name, shape)| {
                Some(NewCodes {
                    name,
                    shape,
                    codes: Codes::Signed(&self.convolutions.get(name)?.codes),
                })
            })
            .collect();
        self.expanded.write(path, INT8_FORMAT, &tensors, &codes)
    }
}

/// Tells a convolution, `[outputs, inputs, height, width]`, from a vector, `[channels]`.
pub(super) fn is_convolution(shape: &[usize]) -> bool {
    shape.len() == 4
}

/// Returns the name of the tensor with the scales of an 8-bit tensor's output channels.
pub(super) fn scale_of(name: &str) -> String {
    format!("{name}.scale")
}

/// Reads a convolution of an 8-bit file as f32 values.
pub(super) fn read_convolution(
    file: &TensorFile<'_>,
    name: &str,
    shape: &[usize],
) -> Result<Vec<f32>, TensorFileError> {
    let scales = file.values(&scale_of(name), &shape[..1])?;
    Ok(QuantisedTensor { codes: file.codes(name, shape)?, scales }.expand())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Architecture, BatchNormStatistics};

    #[test]
    fn rounding_moves_values_by_at_most_half_a_scale() {
        let values: Vec<f32> =
            (0..24).map(|i| (i as f32 * 0.7).sin() * [0.01, 1.0, 300.0][i / 8]).collect();
        let quantised = QuantisedTensor::new(&values, 3);
        let expanded = quantised.expand();
        assert_eq!(expanded.len(), values.len());
        for (index, (value, expanded)) in values.iter().zip(&expanded).enumerate() {
            let bound = 0.501 * quantised.scales[index / 8];
            assert!((value - expanded).abs() <= bound, "{value} became {expanded}");
        }
    }

    #[test]
    fn a_channel_of_zeros_stays_zero() {
        assert_eq!(QuantisedTensor::new(&[0.0, 0.0, 1.0, -1.0], 2).expand(), [0.0, 0.0, 1.0, -1.0]);
    }

    #[test]
    fn int8_file_loads_as_its_expanded_weights() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("base.safetensors");
        let weights = BaseWeights::random(Architecture::ResNet18, 1, BatchNormStatistics::Random);
        let compressed = weights.compressed();
        compressed.save(&path).unwrap();
        let read = BaseWeights::load(&path).unwrap();
        assert_eq!(read.identity(), compressed.expanded().identity());
        assert_ne!(read.identity(), weights.identity());
        assert_eq!(read.tensor("bn1.running_var"), weights.tensor("bn1.running_var"));
        assert!(fs_err::metadata(&path).unwrap().len() < 4 * 11_200_000 / 3);
        assert!(matches!(compressed.save(&path), Err(WeightsError::Exists { .. })));
    }

    #[test]
    fn load_rejects_an_int8_file_with_a_changed_scale() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("base.safetensors");
        let weights = BaseWeights::random(Architecture::ResNet18, 1, BatchNormStatistics::Random);
        let mut compressed = weights.compressed();
        compressed.convolutions.get_mut("conv1.weight").unwrap().scales[3] *= 2.0;
        compressed.save(&path).unwrap();
        assert!(matches!(BaseWeights::load(&path), Err(WeightsError::Damaged { .. })));
    }
}
