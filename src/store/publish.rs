//! Publishing: a head gets the next version and becomes visible atomically.

use std::{io, path::PathBuf};

use super::{HeadStore, VersionFile};
use crate::{
    atomic_file,
    base::{BaseIdentity, BranchWeights, FeatureSet},
    head::{Class, ClassCodes, DecisionRule, HeadContent, HeadFileError, Linear, ReferenceSet},
    ids::{Digest, TaskName, Version},
    image::Preprocess,
};

/// Attempts to claim a version before giving up; each loses to a concurrent publisher.
const MAX_ATTEMPTS: usize = 100;

/// A head without its version and class codes, which the store assigns.
#[derive(Debug, Clone)]
pub struct HeadDraft {
    pub task: TaskName,
    /// RFC 3339, in UTC.
    pub created_at: String,
    pub base: BaseIdentity,
    pub features: FeatureSet,
    pub preprocess: Preprocess,
    /// Labels and whether they are good, in the order of the linear classifier's rows.
    pub classes: Vec<(String, bool)>,
    pub decision: DecisionRule,
    pub evidence: serde_json::Value,
    pub provenance: serde_json::Value,
    pub linear: Linear,
    /// The private layers of a deep head; `None` for a linear head.
    pub branch: Option<BranchWeights>,
    /// The arithmetic in which the base computed the features.
    pub arithmetic: String,
    pub reference: ReferenceSet,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    pub version: Version,
    pub digest: Digest,
    pub path: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    #[error("cannot publish into {folder}: {source}; nothing was published")]
    Folder { folder: PathBuf, source: io::Error },
    #[error("a server would reject the head: {0}; nothing was published")]
    Content(#[from] HeadFileError),
    #[error(
        "other publishers took {MAX_ATTEMPTS} versions in a row; nothing was published, try again"
    )]
    Crowded,
}

impl HeadStore {
    /// Assigns the next version and the task's class codes to the head, and writes it.
    ///
    /// A label keeps the code that the task has always used for it; new labels get new codes. Never
    /// overwrites. A crash leaves at most a hidden temporary file.
    pub fn publish(&self, draft: &HeadDraft) -> Result<Published, PublishError> {
        let folder = self.task_folder(&draft.task);
        let cannot = |source| PublishError::Folder { folder: folder.clone(), source };
        fs_err::create_dir_all(&folder).map_err(cannot)?;
        for _ in 0..MAX_ATTEMPTS {
            let (next, mut codes) = self.history(&draft.task).map_err(cannot)?;
            let classes = draft.classes.iter().map(|(label, good)| Class {
                label: label.as_str().into(),
                code: codes.code_for(label),
                good: *good,
            });
            let content = draft.content(next, classes.collect());
            let bytes = content.to_bytes()?;
            // Validate it as a server would before it becomes visible.
            HeadContent::from_bytes(&bytes)?;
            let path = self.version_path(&draft.task, next);
            match atomic_file::write_new(&path, &bytes) {
                Ok(()) => return Ok(Published { version: next, digest: Digest::of(&bytes), path }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(cannot(error)),
            }
        }
        Err(PublishError::Crowded)
    }

    /// Returns the newest valid head of the task for this base, with its file's digest.
    ///
    /// A server with this base normally serves it.
    pub fn newest_for(
        &self,
        task: &TaskName,
        base: &BaseIdentity,
    ) -> io::Result<Option<(HeadContent, Digest)>> {
        let readable = |file: &VersionFile| {
            let bytes = self.read(file).ok()?;
            let content = HeadContent::from_bytes(&bytes).ok()?;
            (content.task == *task && content.base == *base).then(|| (content, Digest::of(&bytes)))
        };
        Ok(self.versions(task)?.values().rev().find_map(readable))
    }

    /// Returns the next version and the codes assigned so far, read from valid files oldest first.
    fn history(&self, task: &TaskName) -> io::Result<(Version, ClassCodes)> {
        let versions = self.versions(task)?;
        let mut codes = ClassCodes::default();
        for file in versions.values() {
            let content =
                self.read(file).ok().and_then(|bytes| HeadContent::from_bytes(&bytes).ok());
            if let Some(content) = content.filter(|content| codes.check(&content.classes).is_ok()) {
                codes.record(&content.classes);
            }
        }
        let newest = versions.keys().next_back().copied().unwrap_or(0);
        let next = newest.checked_add(1).ok_or_else(|| {
            io::Error::other(format!("version {newest} is the highest there can be; remove it"))
        })?;
        Ok((next, codes))
    }
}

impl HeadDraft {
    fn content(&self, version: Version, classes: Vec<Class>) -> HeadContent {
        HeadContent {
            task: self.task.clone(),
            version,
            created_at: self.created_at.clone(),
            base: self.base.clone(),
            features: self.features,
            branch: self.branch.clone(),
            preprocess: self.preprocess.clone(),
            classes,
            decision: self.decision.clone(),
            evidence: self.evidence.clone(),
            provenance: self.provenance.clone(),
            linear: self.linear.clone(),
            arithmetic: self.arithmetic.clone(),
            reference: self.reference.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(labels: &[&str]) -> HeadDraft {
        HeadDraft {
            task: "bracket".parse().unwrap(),
            created_at: "2026-01-01T00:00:00Z".to_owned(),
            base: BaseIdentity { architecture: "resnet18".to_owned(), digest: Digest::of(b"base") },
            features: FeatureSet::Gap,
            preprocess: Preprocess::default(),
            classes: labels.iter().map(|label| ((*label).to_owned(), *label == "ok")).collect(),
            decision: DecisionRule::uniform(0.5, labels.len()),
            evidence: serde_json::Value::Null,
            provenance: serde_json::Value::Null,
            linear: Linear::new(vec![0.0; labels.len() * 2], vec![0.0; labels.len()], 2).unwrap(),
            branch: None,
            arithmetic: "fp32".to_owned(),
            reference: ReferenceSet::default(),
        }
    }

    fn codes_of(published: &Published) -> Vec<(String, u32)> {
        let content = HeadContent::from_bytes(&fs_err::read(&published.path).unwrap()).unwrap();
        content.classes.iter().map(|class| (class.label.to_string(), class.code)).collect()
    }

    #[test]
    fn class_codes_persist_over_versions_and_new_labels_get_new_codes() {
        let folder = tempfile::tempdir().unwrap();
        let store = HeadStore::new(folder.path());
        let named = |pairs: &[(&str, u32)]| {
            pairs.iter().map(|(l, c)| ((*l).to_owned(), *c)).collect::<Vec<_>>()
        };
        let first = store.publish(&draft(&["ok", "scratch", "dent"])).unwrap();
        assert_eq!(codes_of(&first), named(&[("ok", 1), ("scratch", 2), ("dent", 3)]));
        store.publish(&draft(&["dent", "ok"])).unwrap();
        let third = store.publish(&draft(&["rust", "dent", "ok", "scratch"])).unwrap();
        assert_eq!(third.version, 3);
        assert_eq!(codes_of(&third), named(&[("rust", 4), ("dent", 3), ("ok", 1), ("scratch", 2)]));
    }

    #[test]
    fn concurrent_publishers_get_different_versions() {
        let folder = tempfile::tempdir().unwrap();
        let store = HeadStore::new(folder.path());
        let mut versions: Vec<Version> = std::thread::scope(|scope| {
            let publishers: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| store.publish(&draft(&["ok", "dent"])).unwrap().version))
                .collect();
            publishers.into_iter().map(|publisher| publisher.join().unwrap()).collect()
        });
        versions.sort_unstable();
        assert_eq!(versions, (1..=8).collect::<Vec<_>>());
    }

    #[test]
    fn head_that_a_server_would_reject_is_never_visible() {
        let folder = tempfile::tempdir().unwrap();
        let store = HeadStore::new(folder.path());
        let twice = draft(&["ok", "ok"]);
        assert!(matches!(store.publish(&twice), Err(PublishError::Content(_))));
        let entries = fs_err::read_dir(folder.path().join("bracket")).unwrap().count();
        assert_eq!(entries, 0);
    }
}
