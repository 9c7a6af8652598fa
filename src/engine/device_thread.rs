//! The one thread that owns the base: a forward pass a batch, then each row's own heads.

use std::{
    collections::{BTreeMap, HashSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{Answer, EngineError, admission::Admission, job::Prepared, prepare::spawn_named, queue::Queue};
use crate::{
    base::{Base, BaseError, Wanted},
    features::{FeatureSet, FeatureWidths},
    image::{PreparedImage, Preprocess},
    metrics::Metrics,
};

pub(super) fn spawn(
    base: Box<dyn Base>,
    queue: Arc<Queue>,
    admission: Arc<Admission>,
    max_batch: usize,
    metrics: Arc<Metrics>,
) -> JoinHandle<()> {
    let thread = DeviceThread { base, queue, admission, max_batch, metrics };
    spawn_named("device".to_owned(), move || thread.run())
}

/// One forward pass of everything that a head may want, so that the first request finds warm caches.
pub(super) fn warm_up(base: &mut dyn Base) -> Result<(), BaseError> {
    let Preprocess { mean, std, .. } = Preprocess::default();
    let side = Preprocess::default().side();
    let pixels = (0..side * side * 3).map(|index| (index % 251) as u8).collect();
    base.forward(&[&PreparedImage { side, pixels, mean, std }], Wanted { pyramid: true, map: false })?;
    Ok(())
}

struct DeviceThread {
    base: Box<dyn Base>,
    queue: Arc<Queue>,
    admission: Arc<Admission>,
    max_batch: usize,
    metrics: Arc<Metrics>,
}

/// If the thread ends by a panic of its own, nobody waits for it in vain.
struct NobodyWaitsInVain {
    queue: Arc<Queue>,
    admission: Arc<Admission>,
}

impl Drop for NobodyWaitsInVain {
    fn drop(&mut self) {
        self.admission.device_is_gone();
        self.queue.close_with(|| EngineError::DeviceLost);
    }
}

impl DeviceThread {
    fn run(mut self) {
        let queue = self.queue.clone();
        let _guard = NobodyWaitsInVain { queue: queue.clone(), admission: self.admission.clone() };
        while let Some(batch) = queue.next_batch() {
            self.serve(batch);
        }
    }

    fn serve(&mut self, batch: Vec<Prepared>) {
        let begun = Instant::now();
        self.observe_batch(&batch);
        let features = catch_unwind(AssertUnwindSafe(|| self.features(&batch)))
            .unwrap_or_else(|_| Err(BaseError::Device { detail: "the forward pass panicked".to_owned() }));
        let forward = begun.elapsed();
        self.metrics.stage_duration.with_label_values(&["forward"]).observe(forward.as_secs_f64());
        self.admission.forward_pass_ended(features.is_ok());
        match features {
            Ok(features) => self.answer(batch, features, begun, forward),
            Err(error) => {
                tracing::error!(%error, images = batch.len(), "a forward pass failed");
                for prepared in batch {
                    prepared.job.answer(Err(EngineError::Failed { detail: error.to_string() }));
                }
            }
        }
    }

    /// Features of every image of every job. Images of one side share a forward pass: nearly always there is one side.
    fn features(&mut self, batch: &[Prepared]) -> Result<Vec<Vec<ImageFeatures>>, BaseError> {
        let wanted =
            Wanted::for_sets(batch.iter().flat_map(|prepared| &prepared.job.heads).map(|head| head.features));
        let mut rows_by_side: BTreeMap<u32, Vec<(usize, usize)>> = BTreeMap::new();
        let mut features: Vec<Vec<ImageFeatures>> = Vec::with_capacity(batch.len());
        for (job, prepared) in batch.iter().enumerate() {
            features.push(vec![ImageFeatures::default(); prepared.images.len()]);
            for (number, image) in prepared.images.iter().enumerate() {
                rows_by_side.entry(image.side).or_default().push((job, number));
            }
        }
        for rows in rows_by_side.values().flat_map(|rows| rows.chunks(self.max_batch)) {
            let images: Vec<&PreparedImage> =
                rows.iter().map(|&(job, number)| &batch[job].images[number]).collect();
            let result = self.base.forward(&images, wanted)?;
            let widths = self.base.widths();
            for (row, &(job, number)) in rows.iter().enumerate() {
                let of_row = |set| result.row(set, row, widths).map(<[f32]>::to_vec).unwrap_or_default();
                features[job][number] =
                    ImageFeatures { gap: of_row(FeatureSet::Gap), pyramid: of_row(FeatureSet::Pyramid) };
                features[job][number].check(widths, wanted)?;
            }
        }
        Ok(features)
    }

    fn answer(
        &self,
        batch: Vec<Prepared>,
        features: Vec<Vec<ImageFeatures>>,
        begun: Instant,
        forward: Duration,
    ) {
        let batch_size = batch.iter().map(|prepared| prepared.images.len()).sum();
        for (prepared, features) in batch.into_iter().zip(features) {
            let Prepared { mut job, image_of_head, ready_at, .. } = prepared;
            let judging = Instant::now();
            let read = |(head, image): (&Arc<crate::head::Head>, &usize)| features[*image].of(head.features);
            let judgements =
                job.heads.iter().zip(&image_of_head).map(|pair| pair.0.judge(read(pair))).collect();
            let wanted_features = if job.want_features {
                job.heads.iter().zip(&image_of_head).map(|pair| read(pair).to_vec()).collect()
            } else {
                Vec::new()
            };
            let now = Instant::now();
            job.times.queue += begun.saturating_duration_since(ready_at);
            job.times.forward = forward;
            job.times.head = now.saturating_duration_since(judging);
            job.times.total = now.saturating_duration_since(job.accepted_at);
            job.times.batch_size = batch_size;
            let times = job.times;
            for (stage, time) in [("queue", times.queue), ("head", times.head)] {
                self.metrics.stage_duration.with_label_values(&[stage]).observe(time.as_secs_f64());
            }
            job.answer(Ok(Answer { judgements, features: wanted_features, times }));
        }
    }

    fn observe_batch(&self, batch: &[Prepared]) {
        let images: usize = batch.iter().map(|prepared| prepared.images.len()).sum();
        let tasks: HashSet<_> =
            batch.iter().flat_map(|prepared| &prepared.job.heads).map(|head| &head.task).collect();
        self.metrics.batch_images.observe(images as f64);
        self.metrics.batch_tasks.observe(tasks.len() as f64);
    }
}

/// The features of one image.
#[derive(Debug, Clone, Default)]
struct ImageFeatures {
    gap: Vec<f32>,
    pyramid: Vec<f32>,
}

impl ImageFeatures {
    fn of(&self, set: FeatureSet) -> &[f32] {
        match set {
            FeatureSet::Gap => &self.gap,
            FeatureSet::Pyramid => &self.pyramid,
        }
    }

    /// A base that gives too little has failed; no head may read it.
    fn check(&self, widths: FeatureWidths, wanted: Wanted) -> Result<(), BaseError> {
        let pyramid = if wanted.pyramid { widths.pyramid } else { self.pyramid.len() };
        if self.gap.len() == widths.gap && self.pyramid.len() == pyramid {
            return Ok(());
        }
        let found = (self.gap.len(), self.pyramid.len());
        Err(BaseError::Device { detail: format!("a forward pass gave features of widths {found:?}") })
    }
}
