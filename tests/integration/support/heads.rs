//! Heads for the fake base, and helpers that put broken ones into the folder.

use std::path::{Path, PathBuf};

use turret::{
    base::{BaseIdentity, BranchPoint, BranchTensor, BranchWeights, FeatureSet},
    head::{Class, DecisionRule, HeadContent, Linear, ReferenceSet},
    ids::Version,
    image::{Preprocess, Resize},
    store::{HeadDraft, HeadStore, Published},
};

use super::fake_base;

/// Returns a two-class head that answers `bright` for reddish pictures.
///
/// Its logits are `[10 * red + mark, 5 + mark]`.
pub(crate) fn draft(task: &str, mark: f32) -> HeadDraft {
    HeadDraft {
        task: task.parse().unwrap(),
        created_at: "2026-01-01T00:00:00Z".to_owned(),
        base: fake_base::identity(),
        features: FeatureSet::Gap,
        // Weighs every pixel equally, so that a plain picture's features are exact.
        preprocess: Preprocess { resize: Resize::Stretch { size: 32 }, ..Preprocess::default() },
        classes: vec![("bright".to_owned(), true), ("dark".to_owned(), false)],
        decision: DecisionRule::uniform(0.6, 2),
        evidence: serde_json::Value::Null,
        provenance: serde_json::Value::Null,
        linear: Linear::new(vec![10.0, 0.0, 0.0, mark, 0.0, 0.0, 0.0, mark], vec![0.0, 5.0], 4)
            .unwrap(),
        branch: None,
        arithmetic: "exact".to_owned(),
        reference: ReferenceSet::default(),
    }
}

/// As [`draft`] with layers of its own; logits `[10 * red + mark * offset, 5 + mark * offset]`.
pub(crate) fn deep_draft(task: &str, mark: f32, offset: f32) -> HeadDraft {
    let tensor = BranchTensor { shape: vec![1], values: vec![offset] };
    let tensors = [(fake_base::BRANCH_TENSOR.to_owned(), tensor)].into();
    HeadDraft {
        branch: Some(BranchWeights { branch: BranchPoint { first_block: 2 }, tensors }),
        ..draft(task, mark)
    }
}

pub(crate) fn publish(root: &Path, draft: &HeadDraft) -> Published {
    HeadStore::new(root).publish(draft).unwrap()
}

/// Returns what `publish` would write as this version, for tests that corrupt it.
pub(crate) fn content(draft: &HeadDraft, version: Version) -> HeadContent {
    let classes = draft.classes.iter().zip(1..);
    HeadContent {
        task: draft.task.clone(),
        version,
        created_at: draft.created_at.clone(),
        base: draft.base.clone(),
        features: draft.features,
        branch: draft.branch.clone(),
        preprocess: draft.preprocess.clone(),
        classes: classes
            .map(|((label, good), code)| Class { label: label.as_str().into(), code, good: *good })
            .collect(),
        decision: draft.decision.clone(),
        evidence: serde_json::Value::Null,
        provenance: serde_json::Value::Null,
        linear: draft.linear.clone(),
        arithmetic: draft.arithmetic.clone(),
        reference: draft.reference.clone(),
    }
}

pub(crate) fn other_base() -> BaseIdentity {
    BaseIdentity {
        architecture: "fake".to_owned(),
        digest: turret::ids::Digest::of(b"another base"),
    }
}

pub(crate) fn path_of(root: &Path, task: &str, version: Version) -> PathBuf {
    root.join(task).join(format!("{version:08}.safetensors"))
}

/// Writes bytes atomically where a head belongs.
pub(crate) fn put(root: &Path, task: &str, version: Version, bytes: &[u8]) {
    fs_err::create_dir_all(root.join(task)).unwrap();
    turret::atomic_file::write_new(&path_of(root, task, version), bytes).unwrap();
}
