//! The base as a head sees it before it is installed.

use crate::{
    base::Outputs,
    engine::{Engine, LoadBranchError},
    head::{ClassCodes, CodeConflict, Head, HeadError, ReferenceMismatch, ReferenceSet, ToInstall},
    ids::{TaskName, Version},
};

/// Checks heads against the base of an engine, by asking the base itself.
#[derive(Debug)]
pub(super) struct HeadChecker(pub(super) Engine);

/// Why a file that could be read is not installed.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeadRejection {
    #[error(transparent)]
    Head(#[from] HeadError),
    #[error(transparent)]
    Codes(#[from] CodeConflict),
    #[error("its weights are so large that a judgement overflows")]
    Overflows,
    #[error(transparent)]
    Branch(#[from] LoadBranchError),
    #[error("its reference pictures could not be computed: {reason}")]
    NoReference { reason: String },
    #[error(transparent)]
    Reference(#[from] ReferenceMismatch),
}

impl HeadChecker {
    /// The head, with its own layers on the device, ready to judge.
    pub(super) fn check(
        &self,
        bytes: &[u8],
        task: &TaskName,
        version: Version,
        codes: &ClassCodes,
    ) -> Result<Head, HeadRejection> {
        let Self(engine) = self;
        let loaded = Head::load(bytes, task, version, engine.identity(), engine.widths())?;
        let (mut head, ToInstall { reference, branch }) = loaded;
        codes.check(&head.classes)?;
        // The first judgement is made here rather than for a caller; numbers that overflow show in it.
        let judgement = head.judge(&vec![1.0; head.linear.width()]);
        if !judgement.probabilities.iter().all(|probability| probability.is_finite()) {
            return Err(HeadRejection::Overflows);
        }
        head.branch = branch.map(|weights| engine.load_branch(weights)).transpose()?;
        self.check_references(&head, &reference)?;
        Ok(head)
    }

    /// Recomputes the head's reference pictures: whatever the weights' digest cannot tell - other arithmetic, another
    /// library, a broken device - shows in them.
    fn check_references(&self, head: &Head, reference: &ReferenceSet) -> Result<(), HeadRejection> {
        if reference.is_empty() {
            return Ok(());
        }
        let Self(engine) = self;
        let pictures = reference.pictures(&head.preprocess);
        let count = pictures.len();
        let branch = head.branch.as_ref().map(|branch| branch.id);
        let batch = engine
            .features(pictures, Outputs::for_sets([head.features]), branch)
            .map_err(|error| HeadRejection::NoReference { reason: error.to_string() })?;
        let rows = (0..count).filter_map(|image| batch.row(head.features, image, engine.widths()));
        let found: Vec<f32> = rows.flatten().copied().collect();
        Ok(head.check_references(reference, &found, engine.arithmetic())?)
    }
}
