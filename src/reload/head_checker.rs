//! Checks a head against the serving base before it is installed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{
    base::Outputs,
    engine::{Engine, LoadBranchError},
    head::{ClassCodes, CodeConflict, Head, HeadError, ReferenceMismatch, ReferenceSet, ToInstall},
    ids::{TaskName, Version},
};

/// Checks heads by running them on the base of an engine.
#[derive(Debug)]
pub(super) struct HeadChecker(pub(super) Engine);

/// Why a readable file is not installed.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeadRejection {
    #[error(transparent)]
    Head(#[from] HeadError),
    #[error(transparent)]
    Codes(#[from] CodeConflict),
    #[error("its weights are so large that its verdict overflows")]
    Overflows,
    #[error(transparent)]
    Branch(#[from] LoadBranchError),
    #[error("cannot compute the features of its reference pictures: {reason}")]
    NoReference { reason: String },
    #[error(transparent)]
    Reference(#[from] ReferenceMismatch),
    #[error("checking it panicked, see the server's log")]
    Panicked,
}

impl HeadRejection {
    /// Returns whether the bytes of files prove it, so that the same file is no use to try again.
    pub(super) fn is_permanent(&self) -> bool {
        match self {
            Self::Head(_) | Self::Codes(_) | Self::Overflows | Self::Reference(_) => true,
            // It is tried again as soon as the budget has room, not after a pause.
            Self::Branch(LoadBranchError::OverBudget { .. } | LoadBranchError::Refused { .. }) => {
                true
            }
            Self::Branch(LoadBranchError::Device { .. } | LoadBranchError::Engine(_))
            | Self::NoReference { .. }
            | Self::Panicked => false,
        }
    }
}

impl HeadChecker {
    /// Returns the head ready to serve, with its private layers on the device.
    pub(super) fn check(
        &self,
        bytes: &[u8],
        task: &TaskName,
        version: Version,
        codes: &ClassCodes,
    ) -> Result<Head, HeadRejection> {
        let check = AssertUnwindSafe(|| self.check_each(bytes, task, version, codes));
        catch_unwind(check).unwrap_or(Err(HeadRejection::Panicked))
    }

    fn check_each(
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
        // A trial verdict warms the head up for callers and reveals weights that overflow.
        let judgement = head.judge(&vec![1.0; head.linear.width()]);
        if !judgement.probabilities.iter().all(|probability| probability.is_finite()) {
            return Err(HeadRejection::Overflows);
        }
        head.branch = branch.map(|weights| engine.load_branch(weights)).transpose()?;
        self.check_references(&head, &reference)?;
        Ok(head)
    }

    /// Recomputes the features of the head's reference pictures.
    ///
    /// They reveal what the weights' digest cannot: other arithmetic or libraries, a broken device.
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
