//! Features of pictures, from the cache or from the base.
//!
//! The base runs one batch while the next is decoded.

use std::{sync::mpsc::sync_channel, thread};

use rayon::prelude::*;

use super::cache::{FeatureCache, PictureFeatures};
use crate::{
    base::{
        Base, BaseError, BranchId, BranchRows, BranchWeights, FeatureBatch, FeatureSet,
        FeatureWidths, ForwardRequest, Outputs,
    },
    ids::Digest,
    image::{PreparedImage, Preprocess},
    train::{
        data::{
            PictureFile,
            augment::{light_view, view_digest},
            decode_picture, read_picture,
        },
        error::TrainError,
        progress::{Event, Warning},
    },
};

/// Enough to keep a base busy; a batch of prepared images takes about 2 MiB.
const BATCH_IMAGES: usize = 16;

/// Decoded batches that may wait for the base.
const BATCHES_AHEAD: usize = 1;

pub(crate) type PreparedView = Result<PreparedImage, String>;

/// A picture, or an augmented view of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) picture: &'a PictureFile,
    /// 0 is the unchanged picture.
    pub(crate) number: u32,
}

impl<'a> View<'a> {
    pub(crate) fn unchanged(picture: &'a PictureFile) -> Self {
        Self { picture, number: 0 }
    }

    pub(crate) fn digest(&self) -> Digest {
        match self.number {
            0 => self.picture.digest,
            number => view_digest(self.picture.digest, number),
        }
    }
}

/// The base as a head sees it: alone, or with the head's private layers on top of its trunk.
pub(crate) struct FeatureReader<'a> {
    pub(crate) base: &'a mut dyn Base,
    branch: Option<BranchId>,
}

impl<'a> FeatureReader<'a> {
    pub(crate) fn of_base(base: &'a mut dyn Base) -> Self {
        Self { base, branch: None }
    }

    /// Loads the head's private layers, if any, onto the device until the reader is dropped.
    pub(crate) fn of_head(
        base: &'a mut dyn Base,
        branch: Option<&BranchWeights>,
    ) -> Result<Self, BaseError> {
        let branch = branch.map(|weights| base.load_branch(weights)).transpose()?;
        Ok(Self { base, branch })
    }

    pub(crate) fn forward(
        &mut self,
        images: &[&PreparedImage],
        outputs: Outputs,
    ) -> Result<FeatureBatch, BaseError> {
        let Some(branch) = self.branch else { return self.base.forward(images, outputs) };
        let rows = [BranchRows { branch, images: (0..images.len()).collect() }];
        let request = ForwardRequest { outputs, own: false, branches: &rows };
        Ok(self.base.forward_branches(images, request)?.branches.pop().unwrap_or_default())
    }
}

impl Drop for FeatureReader<'_> {
    fn drop(&mut self) {
        if let Some(branch) = self.branch {
            self.base.unload_branch(branch);
        }
    }
}

/// Returns the features of each view, in order; `None` after a warning if it is not a picture.
///
/// # Errors
/// [`TrainError::Base`] if the base fails. A cache that cannot be written only causes a warning.
pub(crate) fn features_of(
    views: &[View<'_>],
    preprocess: &Preprocess,
    cache: Option<&FeatureCache>,
    reader: &mut FeatureReader<'_>,
    observer: &mut dyn FnMut(Event<'_>),
) -> Result<Vec<Option<PictureFeatures>>, TrainError> {
    let mut rows: Vec<Option<PictureFeatures>> =
        views.par_iter().map(|view| cache?.get(view.digest())).collect();
    let missing: Vec<usize> = (0..rows.len()).filter(|&index| rows[index].is_none()).collect();
    let (total, cached) = (rows.len(), rows.len() - missing.len());
    let mut writer = CacheWriter { cache };
    observer(Event::Features { done: cached, total, cached });
    in_batches(views, &missing, preprocess, observer, |done, indices, images, observer| {
        let computed = compute(reader, images)?;
        writer.keep(views, indices, &computed, observer);
        for (&index, features) in indices.iter().zip(computed) {
            rows[index] = Some(features);
        }
        observer(Event::Features { done: cached + done, total, cached });
        Ok(())
    })?;
    Ok(rows)
}

/// Passes the views at `indices` to `take` in decoded batches while the next one is decoded.
///
/// `take` receives how many views are done including this batch, their indices, and their images.
/// Files that are not pictures are skipped with a warning.
pub(crate) fn in_batches(
    views: &[View<'_>],
    indices: &[usize],
    preprocess: &Preprocess,
    observer: &mut dyn FnMut(Event<'_>),
    mut take: impl FnMut(
        usize,
        &[usize],
        &[&PreparedImage],
        &mut dyn FnMut(Event<'_>),
    ) -> Result<(), TrainError>,
) -> Result<(), TrainError> {
    thread::scope(|scope| {
        let (decoded, batches) = sync_channel::<Vec<PreparedView>>(BATCHES_AHEAD);
        scope.spawn(move || {
            for batch in indices.chunks(BATCH_IMAGES) {
                let prepared =
                    batch.par_iter().map(|&index| prepare(&views[index], preprocess)).collect();
                // The receiver is gone: `take` has failed.
                if decoded.send(prepared).is_err() {
                    return;
                }
            }
        });
        let mut done = 0;
        for (batch, prepared) in indices.chunks(BATCH_IMAGES).zip(batches) {
            let mut readable = Vec::with_capacity(batch.len());
            let mut images = Vec::with_capacity(batch.len());
            for (&index, prepared) in batch.iter().zip(&prepared) {
                match prepared {
                    Ok(image) => {
                        readable.push(index);
                        images.push(image);
                    }
                    Err(reason) => {
                        let (path, reason) = (views[index].picture.path.clone(), reason.clone());
                        observer(Event::Warning(Warning::NoPicture { path, reason }));
                    }
                }
            }
            done += batch.len();
            take(done, &readable, &images, observer)?;
        }
        Ok(())
    })
}

/// Decodes and preprocesses a view exactly as the server does.
pub(crate) fn prepare(view: &View<'_>, preprocess: &Preprocess) -> PreparedView {
    let bytes = read_picture(&view.picture.path)?;
    if Digest::of(&bytes) != view.picture.digest {
        return Err("file changed during training".to_owned());
    }
    let decoded = decode_picture(bytes)?;
    let image = preprocess.apply(&decoded, None).map_err(|error| error.to_string())?;
    Ok(if view.number == 0 { image } else { light_view(&image, view.digest()) })
}

fn compute(
    reader: &mut FeatureReader<'_>,
    images: &[&PreparedImage],
) -> Result<Vec<PictureFeatures>, TrainError> {
    if images.is_empty() {
        return Ok(Vec::new());
    }
    let widths = reader.base.widths();
    // The cache holds both sets, so that trying the other one later costs no forward pass.
    let batch = reader.forward(images, Outputs::for_sets(FeatureSet::ALL))?;
    let rows = (0..images.len())
        .map(|image| row(&batch, image, widths).ok_or(TrainError::FeaturesMissing));
    rows.collect()
}

fn row(batch: &FeatureBatch, image: usize, widths: FeatureWidths) -> Option<PictureFeatures> {
    let values = |set| batch.row(set, image, widths).map(<[f32]>::to_vec);
    Some(PictureFeatures { gap: values(FeatureSet::Gap)?, pyramid: values(FeatureSet::Pyramid)? })
}

/// Writes features to the cache; stops after the first failure, with one warning.
struct CacheWriter<'a> {
    cache: Option<&'a FeatureCache>,
}

impl CacheWriter<'_> {
    fn keep(
        &mut self,
        views: &[View<'_>],
        indices: &[usize],
        features: &[PictureFeatures],
        observer: &mut dyn FnMut(Event<'_>),
    ) {
        let Some(cache) = self.cache else { return };
        let kept = indices
            .par_iter()
            .zip(features)
            .try_for_each(|(&index, features)| cache.put(views[index].digest(), features));
        if let Err(error) = kept {
            let (path, reason) = (cache.folder().to_owned(), error.to_string());
            observer(Event::Warning(Warning::CacheNotWritten { path, reason }));
            self.cache = None;
        }
    }
}
