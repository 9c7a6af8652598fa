//! The head file: safetensors with JSON metadata, validated as a whole before any of it is used.

use std::collections::{BTreeMap, HashSet};

use serde::de::DeserializeOwned;

use super::{Class, DecisionRule, Linear, MAX_REFERENCES, REFERENCE_SIDE, ReferenceSet};
use crate::{
    base::{BaseIdentity, BranchPoint, BranchTensor, BranchWeights, FeatureSet},
    ids::{TaskName, Version},
    image::Preprocess,
    tensor_file::{self, Codes, NewCodes, NewTensor, TensorFile, TensorFileError},
};

/// The format that this build reads and writes; an incompatible later format gets another name.
pub const FORMAT: &str = "turret-head/1";

/// Larger files are rejected before they are read.
pub const MAX_HEAD_FILE_BYTES: u64 = 64 << 20;

const WEIGHT: &str = "linear.weight";
const BIAS: &str = "linear.bias";
const PIXELS: &str = "reference.pixels";
const FEATURES: &str = "reference.features";
/// The arithmetic of files that do not name it.
const OLDEST_ARITHMETIC: &str = "fp32";
/// First character of metadata keys that a server must understand to serve the head.
const CRITICAL: char = '!';

/// The content of a head file.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadContent {
    pub task: TaskName,
    pub version: Version,
    /// RFC 3339, in UTC.
    pub created_at: String,
    pub base: BaseIdentity,
    pub features: FeatureSet,
    /// The private layers of a deep head; `None` for a linear head.
    pub branch: Option<BranchWeights>,
    pub preprocess: Preprocess,
    pub classes: Vec<Class>,
    pub decision: DecisionRule,
    /// Measurements for people: accuracy, confusion matrix, picture count. Never read when serving.
    pub evidence: serde_json::Value,
    /// Origin, for people: command, seed, data digest, program version. Never read when serving.
    pub provenance: serde_json::Value,
    pub linear: Linear,
    /// The arithmetic its features were computed in, as the base names it.
    pub arithmetic: String,
    /// Empty in files from trainers that wrote none.
    pub reference: ReferenceSet,
}

#[derive(Debug, thiserror::Error)]
pub enum HeadFileError {
    #[error("the file has {found} bytes, the limit for a head is {limit}")]
    TooLarge { found: u64, limit: u64 },
    #[error(transparent)]
    Tensors(#[from] TensorFileError),
    #[error("metadata key {key} is missing")]
    MissingKey { key: &'static str },
    #[error("invalid metadata key {key}: {detail}")]
    BadValue { key: &'static str, detail: String },
    #[error("unknown head format {found:?}, expected {FORMAT:?}")]
    OtherFormat { found: String },
    #[error("unknown critical metadata key {key:?}; update turret")]
    UnknownCriticalKey { key: String },
}

impl HeadContent {
    /// Serialises the file; equal content gives equal bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, HeadFileError> {
        let branch = self.branch.as_ref().map(|weights| weights.branch);
        let metadata = BTreeMap::from([
            ("format".to_owned(), FORMAT.to_owned()),
            ("task".to_owned(), self.task.to_string()),
            ("version".to_owned(), self.version.to_string()),
            ("created_at".to_owned(), self.created_at.clone()),
            ("base".to_owned(), json(&self.base)),
            ("features".to_owned(), self.features.to_string()),
            ("branch".to_owned(), branch.map(|branch| branch.to_string()).unwrap_or_default()),
            ("preprocess".to_owned(), json(&self.preprocess)),
            ("classes".to_owned(), json(&self.classes)),
            ("decision".to_owned(), json(&self.decision)),
            ("evidence".to_owned(), self.evidence.to_string()),
            ("provenance".to_owned(), self.provenance.to_string()),
            ("arithmetic".to_owned(), self.arithmetic.clone()),
        ]);
        let (classes, width) = (self.linear.classes(), self.linear.width());
        let (weight_shape, bias_shape) = ([classes, width], [classes]);
        let mut tensors = vec![
            NewTensor { name: WEIGHT, shape: &weight_shape, values: self.linear.weight() },
            NewTensor { name: BIAS, shape: &bias_shape, values: self.linear.bias() },
        ];
        tensors.extend(self.branch.iter().flat_map(|weights| &weights.tensors).map(
            |(name, tensor)| NewTensor { name, shape: &tensor.shape, values: &tensor.values },
        ));
        let ReferenceSet { pixels, features } = &self.reference;
        let pictures = self.reference.len();
        let (features_shape, pixels_shape) = ([pictures, width], reference_shape(pictures));
        let codes =
            [NewCodes { name: PIXELS, shape: &pixels_shape, codes: Codes::Unsigned(pixels) }];
        if self.reference.is_empty() {
            return Ok(tensor_file::to_bytes(&tensors, &metadata)?);
        }
        tensors.push(NewTensor { name: FEATURES, shape: &features_shape, values: features });
        Ok(tensor_file::to_bytes_with_codes(&tensors, &codes, &metadata)?)
    }

    /// Parses a file and checks everything that does not depend on the server.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HeadFileError> {
        let found = bytes.len() as u64;
        if found > MAX_HEAD_FILE_BYTES {
            return Err(HeadFileError::TooLarge { found, limit: MAX_HEAD_FILE_BYTES });
        }
        let file = TensorFile::parse(bytes)?;
        let format = text(&file, "format")?;
        if format != FORMAT {
            return Err(HeadFileError::OtherFormat { found: format.to_owned() });
        }
        if let Some(key) = file.metadata.keys().filter(|key| key.starts_with(CRITICAL)).min() {
            return Err(HeadFileError::UnknownCriticalKey { key: key.clone() });
        }
        let classes: Vec<Class> = parsed(&file, "classes")?;
        check_classes(&classes)?;
        let content = Self {
            task: word(&file, "task")?,
            version: word(&file, "version")?,
            created_at: text(&file, "created_at")?.to_owned(),
            base: parsed(&file, "base")?,
            features: word(&file, "features")?,
            branch: branch(&file)?,
            preprocess: parsed(&file, "preprocess")?,
            decision: parsed(&file, "decision")?,
            evidence: parsed(&file, "evidence")?,
            provenance: parsed(&file, "provenance")?,
            linear: linear(&file, classes.len())?,
            arithmetic: file
                .metadata
                .get("arithmetic")
                .map_or(OLDEST_ARITHMETIC, String::as_str)
                .to_owned(),
            reference: ReferenceSet::default(),
            classes,
        };
        let content = Self { reference: reference(&file, content.linear.width())?, ..content };
        content.check_values()?;
        Ok(content)
    }

    fn check_values(&self) -> Result<(), HeadFileError> {
        if self.version == 0 {
            return Err(bad("version", "versions start at 1"));
        }
        self.preprocess.validate().map_err(|error| bad("preprocess", error))?;
        let rule = &self.decision;
        if !(rule.temperature.is_finite() && rule.temperature > 0.0) {
            return Err(bad(
                "decision",
                format!("temperature {} is not above 0", rule.temperature),
            ));
        }
        if rule.thresholds.len() != self.classes.len() {
            let detail =
                format!("{} thresholds for {} classes", rule.thresholds.len(), self.classes.len());
            return Err(bad("decision", detail));
        }
        match rule.thresholds.iter().find(|threshold| !(0.0..=1.0).contains(*threshold)) {
            Some(threshold) => {
                Err(bad("decision", format!("threshold {threshold} is not between 0 and 1")))
            }
            None => Ok(()),
        }
    }
}

fn check_classes(classes: &[Class]) -> Result<(), HeadFileError> {
    if classes.is_empty() {
        return Err(bad("classes", "it lists no class"));
    }
    let (mut labels, mut codes) = (HashSet::new(), HashSet::new());
    for Class { label, code, .. } in classes {
        if label.is_empty() || *code == 0 {
            return Err(bad(
                "classes",
                format!("class {label:?} has code {code}; neither may be empty or 0"),
            ));
        }
        if !labels.insert(label) || !codes.insert(code) {
            return Err(bad("classes", format!("class {label:?} or its code {code} occurs twice")));
        }
    }
    Ok(())
}

/// Reads the private layers of a deep head, which are all tensors with an unknown name.
///
/// Whether they are complete and have the right shapes is for the base to check.
fn branch(file: &TensorFile<'_>) -> Result<Option<BranchWeights>, HeadFileError> {
    let is_known = |name: &str| [WEIGHT, BIAS, PIXELS, FEATURES].contains(&name);
    if text(file, "branch")?.is_empty() {
        file.refuse_others(is_known)?;
        return Ok(None);
    }
    let branch: BranchPoint = word(file, "branch")?;
    let mut tensors = BTreeMap::new();
    for name in file.names().into_iter().filter(|name| !is_known(name)) {
        let shape = file.shape(&name).unwrap_or_default();
        let values = file.values(&name, &shape)?;
        tensors.insert(name, BranchTensor { shape, values });
    }
    if tensors.is_empty() {
        return Err(bad("branch", format!("it branches at {branch} but has no private layers")));
    }
    Ok(Some(BranchWeights { branch, tensors }))
}

fn linear(file: &TensorFile<'_>, classes: usize) -> Result<Linear, HeadFileError> {
    let shape =
        file.shape(WEIGHT).ok_or_else(|| TensorFileError::Missing { name: WEIGHT.to_owned() })?;
    let width = match *shape {
        [rows, width] if rows == classes => width,
        [_, width] => {
            let expected = vec![classes, width];
            return Err(
                TensorFileError::Shape { name: WEIGHT.to_owned(), expected, found: shape }.into()
            );
        }
        ref other => {
            return Err(bad("classes", format!("{WEIGHT} has shape {other:?}, expected 2 axes")));
        }
    };
    let weight = file.values(WEIGHT, &[classes, width])?;
    let bias = file.values(BIAS, &[classes])?;
    Linear::new(weight, bias, width).map_err(|error| bad("classes", error))
}

/// Returns `[pictures, side, side, 3]`.
fn reference_shape(pictures: usize) -> [usize; 4] {
    [pictures, REFERENCE_SIDE as usize, REFERENCE_SIDE as usize, 3]
}

fn reference(file: &TensorFile<'_>, width: usize) -> Result<ReferenceSet, HeadFileError> {
    let pictures = match (file.shape(PIXELS), file.shape(FEATURES)) {
        (None, None) => return Ok(ReferenceSet::default()),
        (Some(shape), _) => shape.first().copied().unwrap_or(0),
        (None, Some(_)) => return Err(TensorFileError::Missing { name: PIXELS.to_owned() }.into()),
    };
    if !(1..=MAX_REFERENCES).contains(&pictures) {
        return Err(bad(
            "reference",
            format!("it has {pictures} pictures, expected 1 to {MAX_REFERENCES}"),
        ));
    }
    let pixels = file.bytes(PIXELS, &reference_shape(pictures))?.to_vec();
    Ok(ReferenceSet { pixels, features: file.values(FEATURES, &[pictures, width])? })
}

fn json<T: serde::Serialize>(value: &T) -> String {
    // Text and numbers always serialise; a null would be rejected when the file is read back.
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

fn bad(key: &'static str, detail: impl ToString) -> HeadFileError {
    HeadFileError::BadValue { key, detail: detail.to_string() }
}

fn text<'f>(file: &'f TensorFile<'_>, key: &'static str) -> Result<&'f str, HeadFileError> {
    file.metadata.get(key).map(String::as_str).ok_or(HeadFileError::MissingKey { key })
}

fn word<T: std::str::FromStr<Err: ToString>>(
    file: &TensorFile<'_>,
    key: &'static str,
) -> Result<T, HeadFileError> {
    text(file, key)?.parse().map_err(|error: T::Err| bad(key, error))
}

fn parsed<T: DeserializeOwned>(
    file: &TensorFile<'_>,
    key: &'static str,
) -> Result<T, HeadFileError> {
    serde_json::from_str(text(file, key)?).map_err(|error| bad(key, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Digest;

    fn content() -> HeadContent {
        HeadContent {
            task: "bracket".parse().unwrap(),
            version: 3,
            created_at: "2026-01-01T00:00:00Z".to_owned(),
            base: BaseIdentity { architecture: "resnet18".to_owned(), digest: Digest::of(b"base") },
            features: FeatureSet::Gap,
            branch: None,
            preprocess: Preprocess::default(),
            classes: vec![
                Class { label: "ok".into(), code: 1, good: true },
                Class { label: "scratch".into(), code: 2, good: false },
            ],
            decision: DecisionRule::uniform(0.5, 2),
            evidence: serde_json::json!({ "accuracy": 0.97 }),
            provenance: serde_json::json!({ "seed": 1 }),
            linear: Linear::new((0..8).map(|i| i as f32).collect(), vec![0.5, -0.5], 4).unwrap(),
            arithmetic: "bf16".to_owned(),
            reference: ReferenceSet {
                pixels: (0..2 * REFERENCE_SIDE * REFERENCE_SIDE * 3)
                    .map(|i| (i % 256) as u8)
                    .collect(),
                features: vec![0.5; 8],
            },
        }
    }

    #[test]
    fn file_may_have_no_references_but_not_too_many() {
        let without = HeadContent { reference: ReferenceSet::default(), ..content() };
        assert_eq!(HeadContent::from_bytes(&without.to_bytes().unwrap()).unwrap(), without);
        let mut nine = content();
        nine.reference.pixels = nine.reference.pixels[..3072].repeat(9);
        nine.reference.features = vec![0.5; 9 * 4];
        assert!(matches!(
            HeadContent::from_bytes(&nine.to_bytes().unwrap()),
            Err(HeadFileError::BadValue { .. })
        ));
    }

    #[test]
    fn file_round_trips() {
        let content = content();
        assert_eq!(HeadContent::from_bytes(&content.to_bytes().unwrap()).unwrap(), content);
    }

    #[test]
    fn deep_head_keeps_its_layers_and_a_linear_head_has_none() {
        let tensor = BranchTensor { shape: vec![2, 1], values: vec![1.5, -2.0] };
        let tensors = BTreeMap::from([("layer4.2.conv1.weight".to_owned(), tensor)]);
        let branch = BranchWeights { branch: BranchPoint { first_block: 2 }, tensors };
        let deep = HeadContent { branch: Some(branch), ..content() };
        let bytes = deep.to_bytes().unwrap();
        assert_eq!(HeadContent::from_bytes(&bytes).unwrap(), deep);
        let as_linear = tensor_file::with_metadata(&bytes, "branch", "").unwrap();
        let found = HeadContent::from_bytes(&as_linear).unwrap_err();
        assert!(
            matches!(found, HeadFileError::Tensors(TensorFileError::Unexpected { .. })),
            "{found}"
        );
        let elsewhere = tensor_file::with_metadata(&bytes, "branch", "layer3").unwrap();
        let found = HeadContent::from_bytes(&elsewhere).unwrap_err().to_string();
        assert!(found.contains("layer3"), "{found}");
    }

    #[test]
    fn values_that_would_serve_wrongly_are_rejected() {
        let broken: [fn(&mut HeadContent); 9] = [
            |head| head.version = 0,
            |head| head.classes[1].code = 1,
            |head| head.classes[1].label = "ok".into(),
            |head| head.classes[1].code = 0,
            |head| head.classes.truncate(1),
            |head| head.decision.temperature = 0.0,
            |head| head.decision.thresholds = vec![0.5].into(),
            |head| head.decision.thresholds = vec![0.5, 1.5].into(),
            |head| {
                let branch = BranchPoint { first_block: 2 };
                head.branch = Some(BranchWeights { branch, tensors: BTreeMap::new() });
            },
        ];
        for (number, breaking) in broken.into_iter().enumerate() {
            let mut head = content();
            breaking(&mut head);
            assert!(
                HeadContent::from_bytes(&head.to_bytes().unwrap()).is_err(),
                "case {number} was accepted"
            );
        }
    }

    #[test]
    fn unknown_metadata_key_is_rejected_only_if_critical() {
        let bytes = content().to_bytes().unwrap();
        let file = TensorFile::parse(&bytes).unwrap();
        let with = |key: &str| {
            let mut metadata: BTreeMap<_, _> = file.metadata.clone().into_iter().collect();
            metadata.insert(key.to_owned(), "1".to_owned());
            let weight = content().linear.weight().to_vec();
            let tensors = [
                NewTensor { name: WEIGHT, shape: &[2, 4], values: &weight },
                NewTensor { name: BIAS, shape: &[2], values: &[0.0, 0.0] },
            ];
            HeadContent::from_bytes(&tensor_file::to_bytes(&tensors, &metadata).unwrap())
        };
        assert!(with("note").is_ok());
        assert!(matches!(with("!mask"), Err(HeadFileError::UnknownCriticalKey { .. })));
    }
}
