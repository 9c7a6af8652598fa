//! The features of every picture: out of the cache, or from the base in batches while the next batch is decoded.

use std::{sync::mpsc::sync_channel, thread};

use rayon::prelude::*;

use super::{
    Event, TrainError, Warning,
    augment::{light_view, view_digest},
    cache::{FeatureCache, PictureFeatures},
    dataset::{PictureFile, decode_picture, read_picture},
};
use crate::{
    base::{Base, FeatureBatch, Wanted},
    features::{FeatureSet, FeatureWidths},
    image::{PreparedImage, Preprocess},
    task::Digest,
};

/// Enough to keep a base busy; a batch of prepared images takes about 2 MiB.
const BATCH_IMAGES: usize = 16;

/// Batches that wait, decoded, for the base.
const BATCHES_AHEAD: usize = 1;

pub(super) type Prepared = Result<PreparedImage, String>;

/// A picture, or an augmented view of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct View<'a> {
    pub(super) picture: &'a PictureFile,
    /// 0: the picture as it is.
    pub(super) number: u32,
}

impl<'a> View<'a> {
    pub(super) fn unchanged(picture: &'a PictureFile) -> Self {
        Self { picture, number: 0 }
    }

    fn digest(&self) -> Digest {
        match self.number {
            0 => self.picture.digest,
            number => view_digest(self.picture.digest, number),
        }
    }
}

/// The features of each view, in their order; `None` for a file that is no picture, after a warning that names it.
///
/// # Errors
/// [`TrainError::Base`] if the base fails. A cache that cannot be written is a warning.
pub(super) fn features_of(
    views: &[View<'_>],
    preprocess: &Preprocess,
    cache: Option<&FeatureCache>,
    base: &mut dyn Base,
    observer: &mut dyn FnMut(Event<'_>),
) -> Result<Vec<Option<PictureFeatures>>, TrainError> {
    let mut rows: Vec<Option<PictureFeatures>> =
        views.par_iter().map(|view| cache?.get(view.digest())).collect();
    let missing: Vec<usize> = (0..rows.len()).filter(|&index| rows[index].is_none()).collect();
    let cached = rows.len() - missing.len();
    let mut writer = CacheWriter { cache };
    let mut done = cached;
    observer(Event::Features { done, total: rows.len(), cached });
    thread::scope(|scope| {
        let (decoded, batches) = sync_channel::<Vec<Prepared>>(BATCHES_AHEAD);
        let missing = &missing;
        scope.spawn(move || {
            for batch in missing.chunks(BATCH_IMAGES) {
                let prepared = batch.par_iter().map(|&index| prepare(&views[index], preprocess)).collect();
                // Nobody listens any more: the base failed.
                if decoded.send(prepared).is_err() {
                    return;
                }
            }
        });
        for (indices, prepared) in missing.chunks(BATCH_IMAGES).zip(batches) {
            let mut readable = Vec::with_capacity(indices.len());
            let mut images = Vec::with_capacity(indices.len());
            for (&index, prepared) in indices.iter().zip(&prepared) {
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
            let computed = compute(base, &images)?;
            writer.keep(views, &readable, &computed, observer);
            for (index, features) in readable.into_iter().zip(computed) {
                rows[index] = Some(features);
            }
            done += indices.len();
            observer(Event::Features { done, total: views.len(), cached });
        }
        Ok(())
    })
    .map(|()| rows)
}

/// As the server does it, so that a picture means the same there.
pub(super) fn prepare(view: &View<'_>, preprocess: &Preprocess) -> Prepared {
    let bytes = read_picture(&view.picture.path)?;
    if Digest::of(&bytes) != view.picture.digest {
        return Err("it changed while it was read".to_owned());
    }
    let decoded = decode_picture(bytes)?;
    let image = preprocess.apply(&decoded, None).map_err(|error| error.to_string())?;
    Ok(if view.number == 0 { image } else { light_view(&image, view.digest()) })
}

fn compute(base: &mut dyn Base, images: &[&PreparedImage]) -> Result<Vec<PictureFeatures>, TrainError> {
    if images.is_empty() {
        return Ok(Vec::new());
    }
    let widths = base.widths();
    // The cache keeps both sets, so that trying the other one later costs nothing.
    let batch = base.forward(images, Wanted::for_sets(FeatureSet::ALL))?;
    let rows = (0..images.len()).map(|image| row(&batch, image, widths).ok_or(TrainError::FeaturesMissing));
    rows.collect()
}

fn row(batch: &FeatureBatch, image: usize, widths: FeatureWidths) -> Option<PictureFeatures> {
    let values = |set| batch.row(set, image, widths).map(<[f32]>::to_vec);
    Some(PictureFeatures { gap: values(FeatureSet::Gap)?, pyramid: values(FeatureSet::Pyramid)? })
}

/// Gives up after the first failure, with one warning.
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
