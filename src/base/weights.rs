//! A base's weights as checked numbers: imported from a checkpoint, kept in a base file.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::{
    ActivationRanges, Architecture,
    checkpoint::CheckpointError,
    int8_storage::{INT8_FORMAT, is_convolution, read_convolution, scale_of},
    layers::{IMAGE, Step},
};
use crate::{
    base::BaseIdentity,
    error::ParseNameError,
    ids::{Digest, InvalidDigest},
    tensor_file::{self, NewCodes, NewTensor, TensorFile, TensorFileError},
};

/// Format of a base file with every tensor in f32.
const FORMAT: &str = "turret-base/1";
/// Metadata key of the [`ActivationRanges`]; only a calibrated base has it.
const RANGES: &str = "activation_ranges";

/// Every tensor of a base under torchvision's name, checked.
#[derive(Debug)]
pub struct BaseWeights {
    pub(crate) architecture: Architecture,
    pub(crate) tensors: BTreeMap<String, Vec<f32>>,
    digest: Digest,
    pub(crate) origin: String,
    ranges: Option<ActivationRanges>,
}

#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("{path} exists; a base is never overwritten: name another file or remove it")]
    Exists { path: PathBuf },
    #[error(
        "{path} is not a Turret base file ({detail}); \
         make one with `turret base import {path} -o base.safetensors`"
    )]
    NotABase { path: PathBuf, detail: String },
    #[error("{path}: {source}")]
    Tensors { path: PathBuf, source: TensorFileError },
    #[error("{path}: {source}")]
    Architecture { path: PathBuf, source: ParseNameError },
    #[error("{path}: {source}")]
    Digest { path: PathBuf, source: InvalidDigest },
    #[error(
        "cannot use the activation ranges of {path} ({detail}); \
         measure them again with `turret base calibrate`"
    )]
    Ranges { path: PathBuf, detail: String },
    #[error(
        "{path} was changed or damaged: \
         its weights have digest {found}, its metadata says {expected}"
    )]
    Damaged { path: PathBuf, expected: Digest, found: Digest },
    #[error(
        "the tensors of {path} match no supported network ({}); the nearest is {architecture}{}: \
         {detail}",
        Architecture::names(), under(.prefix)
    )]
    OtherNetwork { path: PathBuf, architecture: Architecture, prefix: String, detail: String },
    #[error(
        "{path} holds no supported network ({}){}: no tensor has a name like conv1.weight or \
         features.0.weight, the first is {first}",
        Architecture::names(), under(.prefix)
    )]
    NoNetwork { path: PathBuf, prefix: String, first: String },
    #[error(
        "{path} holds {} networks, under {}; choose one, such as with --prefix {}",
        .prefixes.len(), quoted(.prefixes), .prefixes.last().map_or("", String::as_str)
    )]
    SeveralNetworks { path: PathBuf, prefixes: Vec<String> },
}

impl BaseWeights {
    pub(crate) fn new(
        architecture: Architecture,
        tensors: BTreeMap<String, Vec<f32>>,
        origin: String,
    ) -> Self {
        let digest = digest_of(&tensors);
        Self { architecture, tensors, digest, origin, ranges: None }
    }

    /// Reads a base file of either format and checks everything, including the digest.
    ///
    /// The digest covers the f32 values that the network computes with, however they are stored.
    pub fn load(path: &Path) -> Result<Self, WeightsError> {
        let at = || path.to_owned();
        let bytes =
            fs_err::read(path).map_err(|source| WeightsError::Read { path: at(), source })?;
        let file = TensorFile::parse(&bytes)
            .map_err(|error| WeightsError::NotABase { path: at(), detail: error.to_string() })?;
        let text = |key: &str| {
            let missing = || WeightsError::NotABase {
                path: at(),
                detail: format!("metadata key {key} is missing"),
            };
            file.metadata.get(key).ok_or_else(missing)
        };
        let format = text("format")?;
        let is_int8 = format == INT8_FORMAT;
        if format != FORMAT && !is_int8 {
            let detail =
                format!("unknown format {format:?}, expected {FORMAT:?} or {INT8_FORMAT:?}");
            return Err(WeightsError::NotABase { path: at(), detail });
        }
        let architecture: Architecture = text("architecture")?
            .parse()
            .map_err(|source| WeightsError::Architecture { path: at(), source })?;
        let expected = text("digest")?
            .parse()
            .map_err(|source| WeightsError::Digest { path: at(), source })?;
        let tensors = read_tensors(&file, architecture, is_int8)
            .map_err(|source| WeightsError::Tensors { path: at(), source })?;
        let mut weights = Self::new(architecture, tensors, text("origin")?.clone());
        if weights.digest != expected {
            return Err(WeightsError::Damaged { path: at(), expected, found: weights.digest });
        }
        weights.ranges = ranges_of(&file, architecture)
            .map_err(|detail| WeightsError::Ranges { path: at(), detail })?;
        Ok(weights)
    }

    /// Writes a copy of the base file `from` with these ranges.
    ///
    /// Weights and digest stay the same, so heads fit both files.
    pub fn save_with_ranges(
        from: &Path,
        ranges: &ActivationRanges,
        path: &Path,
    ) -> Result<(), WeightsError> {
        let bytes = fs_err::read(from)
            .map_err(|source| WeightsError::Read { path: from.to_owned(), source })?;
        let broken = |detail: String| WeightsError::Ranges { path: from.to_owned(), detail };
        let ranges = serde_json::to_string(ranges).map_err(|error| broken(error.to_string()))?;
        let bytes = tensor_file::with_metadata(&bytes, RANGES, &ranges)
            .map_err(|source| WeightsError::Tensors { path: from.to_owned(), source })?;
        write_new(path, &bytes)
    }

    /// Writes a base file in f32; it appears whole or not at all, and never replaces another.
    pub fn save(&self, path: &Path) -> Result<(), WeightsError> {
        let parameters = self.architecture.parameters();
        let tensors: Vec<_> = parameters
            .iter()
            .map(|(name, shape)| NewTensor { name, shape, values: self.tensor(name) })
            .collect();
        self.write(path, FORMAT, &tensors, &[])
    }

    pub(crate) fn write(
        &self,
        path: &Path,
        format: &str,
        tensors: &[NewTensor<'_>],
        codes: &[NewCodes<'_>],
    ) -> Result<(), WeightsError> {
        let metadata = BTreeMap::from([
            ("format".to_owned(), format.to_owned()),
            ("architecture".to_owned(), self.architecture.to_string()),
            ("digest".to_owned(), self.digest.to_string()),
            ("origin".to_owned(), self.origin.clone()),
        ]);
        let bytes = tensor_file::to_bytes_with_codes(tensors, codes, &metadata)
            .map_err(|source| WeightsError::Tensors { path: path.to_owned(), source })?;
        write_new(path, &bytes)
    }

    /// Returns the ranges of the maps, if the base was calibrated.
    pub fn activation_ranges(&self) -> Option<&ActivationRanges> {
        self.ranges.as_ref()
    }

    pub fn architecture(&self) -> Architecture {
        self.architecture
    }

    pub fn identity(&self) -> BaseIdentity {
        BaseIdentity { architecture: self.architecture.to_string(), digest: self.digest }
    }

    /// Describes where the weights came from, for people.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Returns a tensor of [`Architecture::parameters`]; construction checked that all exist.
    pub(crate) fn tensor(&self, name: &str) -> &[f32] {
        self.tensors.get(name).map_or(&[], Vec::as_slice)
    }
}

fn under(prefix: &str) -> String {
    if prefix.is_empty() { String::new() } else { format!(" under the prefix {prefix:?}") }
}

fn quoted(prefixes: &[String]) -> String {
    prefixes.iter().map(|prefix| format!("{prefix:?}")).collect::<Vec<_>>().join(" and ")
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), WeightsError> {
    crate::atomic_file::write_new(path, bytes).map_err(|source| {
        let path = path.to_owned();
        if source.kind() == std::io::ErrorKind::AlreadyExists {
            WeightsError::Exists { path }
        } else {
            WeightsError::Write { path, source }
        }
    })
}

/// Returns a finite range for every map, or none at all.
fn ranges_of(
    file: &TensorFile<'_>,
    architecture: Architecture,
) -> Result<Option<ActivationRanges>, String> {
    let Some(text) = file.metadata.get(RANGES) else { return Ok(None) };
    let ranges: ActivationRanges = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let stages = architecture.stages();
    let convolutions = stages.iter().flat_map(|stage| &stage.steps).flat_map(Step::convolutions);
    for name in convolutions.map(|spec| spec.name.as_str()).chain([IMAGE]) {
        let range = ranges.of(name).ok_or_else(|| format!("{name} has no range"))?;
        if !(range.least.is_finite() && range.largest.is_finite() && range.least <= range.largest) {
            return Err(format!("{name} has invalid range {} to {}", range.least, range.largest));
        }
    }
    Ok(Some(ranges))
}

fn read_tensors(
    file: &TensorFile<'_>,
    architecture: Architecture,
    is_int8: bool,
) -> Result<BTreeMap<String, Vec<f32>>, TensorFileError> {
    let mut tensors = BTreeMap::new();
    let mut known = BTreeSet::new();
    for (name, shape) in architecture.parameters() {
        let values = if is_int8 && is_convolution(&shape) {
            known.insert(scale_of(&name));
            read_convolution(file, &name, &shape)?
        } else {
            file.values(&name, &shape)?
        };
        known.insert(name.clone());
        tensors.insert(name, values);
    }
    file.refuse_others(|name| known.contains(name))?;
    Ok(tensors)
}

/// Returns the SHA-256 over names, lengths and values in name order, whatever the file format.
fn digest_of(tensors: &BTreeMap<String, Vec<f32>>) -> Digest {
    use sha2::Digest as _;
    let mut hasher = sha2::Sha256::new();
    for (name, values) in tensors {
        hasher.update((name.len() as u64).to_le_bytes());
        hasher.update(name);
        hasher.update((values.len() as u64).to_le_bytes());
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        hasher.update(&bytes);
    }
    Digest::from_bytes(hasher.finalize().into())
}
