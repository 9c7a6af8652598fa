//! Maps a batch's images to the base and to deep heads' layers, and its features back to jobs.

use std::collections::{BTreeMap, HashMap};

use super::job::ReadyJob;
use crate::{
    base::{BaseError, BranchId, BranchRows, FeatureBatch, FeatureWidths, ForwardOutput, Outputs},
    head::Head,
};

/// The features that a forward pass must compute.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FeatureDemand {
    /// Whether any head reads the base's own features.
    pub(super) own: bool,
    pub(super) branches: Vec<BranchRows>,
}

impl FeatureDemand {
    /// Returns the demand of a pass over these (job, image) pairs.
    pub(super) fn of(batch: &[ReadyJob], rows: &[(usize, usize)]) -> Self {
        let mut own = false;
        let mut images_of: BTreeMap<BranchId, Vec<usize>> = BTreeMap::new();
        for (row, &(job, image)) in rows.iter().enumerate() {
            let ReadyJob { job, image_of_head, .. } = &batch[job];
            let heads =
                job.heads.iter().zip(image_of_head).filter(|(_, of_head)| **of_head == image);
            for (head, _) in heads {
                let Some(branch) = &head.branch else {
                    own = true;
                    continue;
                };
                let images = images_of.entry(branch.id).or_default();
                if images.last() != Some(&row) {
                    images.push(row);
                }
            }
        }
        let branches = images_of.into_iter().map(|(branch, images)| BranchRows { branch, images });
        Self { own, branches: branches.collect() }
    }
}

/// The features of a batch's forward passes, and the row of each job's image in them.
pub(super) struct Features {
    widths: FeatureWidths,
    outputs: Outputs,
    passes: Vec<PassFeatures>,
    rows_of_jobs: Vec<Vec<Row>>,
}

struct PassFeatures {
    own: FeatureBatch,
    branches: BTreeMap<BranchId, (Vec<usize>, FeatureBatch)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Row {
    pass: usize,
    row: usize,
}

impl Features {
    pub(super) fn new(widths: FeatureWidths, outputs: Outputs, batch: &[ReadyJob]) -> Self {
        let rows_of_jobs =
            batch.iter().map(|ready| vec![Row::default(); ready.images.len()]).collect();
        Self { widths, outputs, passes: Vec::new(), rows_of_jobs }
    }

    /// Adds the output of a pass over these (job, image) pairs.
    ///
    /// # Errors
    /// If the base returned too few features; no head may read them.
    pub(super) fn add(
        &mut self,
        found: ForwardOutput,
        rows: &[(usize, usize)],
        demand: FeatureDemand,
    ) -> Result<(), BaseError> {
        if demand.own {
            self.check(&found.own, rows.len())?;
        }
        if found.branches.len() != demand.branches.len() {
            let (found, expected) = (found.branches.len(), demand.branches.len());
            let detail = format!("forward pass gave {found} branches, expected {expected}");
            return Err(BaseError::Device { detail });
        }
        let mut branches = BTreeMap::new();
        for (BranchRows { branch, images }, features) in
            demand.branches.into_iter().zip(found.branches)
        {
            self.check(&features, images.len())?;
            branches.insert(branch, (images, features));
        }
        for (row, &(job, number)) in rows.iter().enumerate() {
            self.rows_of_jobs[job][number] = Row { pass: self.passes.len(), row };
        }
        self.passes.push(PassFeatures { own: found.own, branches });
        Ok(())
    }

    fn check(&self, features: &FeatureBatch, rows: usize) -> Result<(), BaseError> {
        let found = (features.gap.len(), features.pyramid.len());
        let pyramid = if self.outputs.pyramid { rows * self.widths.pyramid } else { found.1 };
        let expected = (rows * self.widths.gap, pyramid);
        if found == expected {
            return Ok(());
        }
        let detail = format!("forward pass gave {found:?} features, expected {expected:?}");
        Err(BaseError::Device { detail })
    }

    /// Returns what a head of this job reads of one of the job's images.
    pub(super) fn of(&self, job: usize, image: usize, head: &Head) -> &[f32] {
        let Row { pass, row } = self.rows_of_jobs[job][image];
        let PassFeatures { own, branches } = &self.passes[pass];
        let features = match &head.branch {
            None => own.row(head.features, row, self.widths),
            Some(branch) => branches.get(&branch.id).and_then(|(images, features)| {
                let of_branch = images.binary_search(&row).ok()?;
                features.row(head.features, of_branch, self.widths)
            }),
        };
        features.unwrap_or_default()
    }
}

/// Copies each of these slices once, and returns for each the index of its copy.
///
/// Two are the same if they lie at the same place: of one image, feature set and branch.
pub(super) fn distinct_features<'a>(
    of_heads: impl Iterator<Item = &'a [f32]>,
) -> (Vec<Vec<f32>>, Vec<usize>) {
    let (mut copies, mut copy_of) = (Vec::new(), HashMap::new());
    let indices = of_heads.map(|features| {
        *copy_of.entry((features.as_ptr(), features.len())).or_insert_with(|| {
            copies.push(features.to_vec());
            copies.len() - 1
        })
    });
    let indices = indices.collect();
    (copies, indices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_that_heads_share_are_copied_once() {
        let rows = [1.0, 2.0, 1.0, 2.0];
        let (first, second) = rows.split_at(2);
        let (copies, indices) = distinct_features([first, second, first, first].into_iter());
        assert_eq!(copies, [vec![1.0, 2.0], vec![1.0, 2.0]]);
        assert_eq!(indices, [0, 1, 0, 0]);
    }
}
