//! One head: a task's classifier with its labels, preprocessing and thresholds.
//!
//! Each version is one immutable file. A linear [`Head`] lives in host memory; a deep head also
//! holds its private layers on the device until it is dropped. A head owns its labels, so one
//! version's scores are never paired with another version's names.

mod codes;
mod decision;
mod file;
mod linear;
mod reference;

pub use codes::{ClassCodes, CodeConflict};
pub use decision::{Decision, DecisionRule, Judgement, Reason};
pub use file::{FORMAT, HeadContent, HeadFileError, MAX_HEAD_FILE_BYTES};
pub use linear::Linear;
pub(crate) use linear::dot;
pub use reference::{MAX_REFERENCES, REFERENCE_SIDE, ReferenceMismatch, ReferenceSet};

use std::sync::{Arc, OnceLock};

use rayon::prelude::*;
use reference::Judge;
use serde::{Deserialize, Serialize};

use crate::{
    base::{BaseIdentity, BranchWeights, FeatureSet, FeatureWidths, LoadedBranch},
    ids::{Digest, TaskName, Version},
    image::Preprocess,
    metrics::{HeadInfo, TaskCounters},
};

/// A class of a task; its code is assigned when first published, and never changes or is reused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Class {
    pub label: Box<str>,
    /// 1, 2, 3 ...; 0 means "no class" in the protocol.
    pub code: u32,
    /// Whether a picture of this class may pass.
    pub good: bool,
}

/// A head that serves one task.
#[derive(Debug)]
pub struct Head {
    pub task: TaskName,
    pub version: Version,
    /// SHA-256 of the head file.
    pub digest: Digest,
    pub classes: Box<[Class]>,
    pub features: FeatureSet,
    pub preprocess: Preprocess,
    pub decision: DecisionRule,
    pub linear: Linear,
    /// Its private layers on the device; `None` for a linear head.
    pub branch: Option<LoadedBranch>,
    /// The arithmetic it was trained in.
    pub arithmetic: Box<str>,
    pub size_bytes: u64,
    /// Empty until the first request; see [`counters`](Self::counters).
    pub lazy_counters: OnceLock<Arc<TaskCounters>>,
}

/// The parts of a head file that are needed only to install the head.
#[derive(Debug)]
pub struct ToInstall {
    pub reference: ReferenceSet,
    pub branch: Option<BranchWeights>,
}

/// Why a valid head file cannot serve on this server.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum HeadMisfit {
    #[error(
        "it was trained on base {} {}, this server runs {} {}; retrain it on this base",
        trained_on.architecture, trained_on.digest.short(),
        serving.architecture, serving.digest.short()
    )]
    OtherBase { trained_on: BaseIdentity, serving: BaseIdentity },
    #[error("it reads {found} {set} features, this base gives {expected}")]
    OtherWidth { set: FeatureSet, expected: usize, found: usize },
    #[error("it is for task {found}, but is in the folder of task {expected}")]
    OtherTask { expected: TaskName, found: TaskName },
    #[error("it says it is version {found}, but its file name says {expected}")]
    OtherVersion { expected: Version, found: Version },
}

impl Head {
    /// Parses and validates a whole head file.
    pub fn from_bytes(bytes: &[u8]) -> Result<(Self, BaseIdentity), HeadFileError> {
        let content = HeadContent::from_bytes(bytes)?;
        let base = content.base.clone();
        Ok((Self::from_content(content, Digest::of(bytes), bytes.len() as u64).0, base))
    }

    fn from_content(content: HeadContent, digest: Digest, size_bytes: u64) -> (Self, ToInstall) {
        let head = Self {
            task: content.task,
            version: content.version,
            digest,
            classes: content.classes.into(),
            features: content.features,
            preprocess: content.preprocess,
            decision: content.decision,
            linear: content.linear,
            branch: None,
            arithmetic: content.arithmetic.into(),
            size_bytes,
            lazy_counters: OnceLock::new(),
        };
        (head, ToInstall { reference: content.reference, branch: content.branch })
    }

    /// Parses a head file that must be this version of this task and fit the serving base.
    ///
    /// The caller still has to [`check_references`](Self::check_references). A deep head cannot
    /// classify before its [`branch`](Self::branch) is loaded.
    pub fn load(
        bytes: &[u8],
        task: &TaskName,
        version: Version,
        serving: &BaseIdentity,
        widths: FeatureWidths,
    ) -> Result<(Self, ToInstall), HeadError> {
        let content = HeadContent::from_bytes(bytes).map_err(HeadError::File)?;
        let trained_on = content.base.clone();
        let (head, to_install) = Self::from_content(content, Digest::of(bytes), bytes.len() as u64);
        if head.task != *task {
            return Err(HeadMisfit::OtherTask { expected: task.clone(), found: head.task }.into());
        }
        if head.version != version {
            return Err(HeadMisfit::OtherVersion { expected: version, found: head.version }.into());
        }
        if trained_on != *serving {
            return Err(HeadMisfit::OtherBase { trained_on, serving: serving.clone() }.into());
        }
        let expected = widths.of(head.features);
        if head.linear.width() != expected {
            let (set, found) = (head.features, head.linear.width());
            return Err(HeadMisfit::OtherWidth { set, expected, found }.into());
        }
        Ok((head, to_install))
    }

    /// Compares this base's features of the reference pictures with the trainer's.
    ///
    /// `found` is `[pictures, width]`.
    pub fn check_references(
        &self,
        reference: &ReferenceSet,
        found: &[f32],
        serving_in: &str,
    ) -> Result<(), ReferenceMismatch> {
        let judge =
            Judge { linear: &self.linear, classes: &self.classes, trained_in: &self.arithmetic };
        reference.check(found, serving_in, judge)
    }

    /// Returns its counters in the server's metrics, created on the first call.
    pub fn counters(&self) -> &Arc<TaskCounters> {
        self.lazy_counters.get_or_init(|| {
            let labels = self.classes.iter().map(|class| &*class.label);
            Arc::new(TaskCounters::new(self.task.as_str(), labels))
        })
    }

    /// Returns what the metrics show of it.
    pub fn info(&self) -> HeadInfo<'_> {
        HeadInfo {
            task: self.task.as_str(),
            version: self.version,
            digest: self.digest.to_string(),
        }
    }

    /// Classifies one image by its features, which have the width of this head's feature set.
    pub fn judge(&self, features: &[f32]) -> Judgement {
        self.decision.judge(&self.classes, self.linear.logits(features))
    }
}

/// Classifies one image with several heads, in their order, and in parallel if there are many.
///
/// Each head is paired with the image's features that it reads.
pub fn judge_by_all<'a>(heads: &[(&'a Head, &'a [f32])]) -> Vec<Judgement> {
    /// Fewer are done before another thread wakes up.
    const MANY: usize = 64;
    let judge = |(head, features): &(&Head, &[f32])| head.judge(features);
    if heads.len() < MANY {
        heads.iter().map(judge).collect()
    } else {
        heads.par_iter().map(judge).collect()
    }
}

/// Why a head file is rejected: it is invalid, or does not fit this server.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    #[error(transparent)]
    File(#[from] HeadFileError),
    #[error(transparent)]
    Misfit(#[from] HeadMisfit),
}
