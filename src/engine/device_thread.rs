//! The one thread that owns the base: a forward pass a batch, then each row's own heads.

use std::{
    collections::{BTreeMap, HashSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{
    Answer, BatchSizes, BatchTimes, EngineError,
    admission::Admission,
    batch_features::{Features, Readers},
    job::Prepared,
    prepare::spawn_named,
    queue::{Queue, Work, lock},
};
use crate::{
    base::{Base, BaseError, BranchedFeatures, Split, Wanted},
    head::{Head, judge_by_all},
    image::{PreparedImage, Preprocess},
    metrics::Metrics,
};

pub(super) fn spawn(
    base: Box<dyn Base>,
    queue: Arc<Queue>,
    admission: Arc<Admission>,
    times: Arc<Mutex<BatchTimes>>,
    metrics: Arc<Metrics>,
) -> JoinHandle<()> {
    let sizes = lock(&times).sizes().clone();
    let thread = DeviceThread { base, queue, admission, times, sizes, metrics };
    spawn_named("device".to_owned(), move || thread.run())
}

/// Forward passes of every size, of everything that a head may want: the first request finds warm caches, and what a
/// batch takes is known.
pub(super) fn warm_up(base: &mut dyn Base, sizes: BatchSizes) -> Result<BatchTimes, BaseError> {
    let Preprocess { mean, std, .. } = Preprocess::default();
    let side = Preprocess::default().side();
    let pixels = (0..side * side * 3).map(|index| (index % 251) as u8).collect();
    let image = PreparedImage { side, pixels, mean, std };
    let mut pass = |images: &[&PreparedImage]| -> Result<Duration, BaseError> {
        let begun = Instant::now();
        base.forward(images, Wanted { pyramid: true, map: false })?;
        Ok(begun.elapsed())
    };
    BatchTimes::measured(sizes, |size| {
        let images = vec![&image; size];
        // The first pass of a size also gets memory and chooses kernels for it.
        let takes = pass(&images)?.min(pass(&images)?);
        tracing::debug!(images = size, ?takes, "warm");
        Ok(takes)
    })
}

struct DeviceThread {
    base: Box<dyn Base>,
    queue: Arc<Queue>,
    admission: Arc<Admission>,
    times: Arc<Mutex<BatchTimes>>,
    sizes: BatchSizes,
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
        while let Some(work) = queue.next_work() {
            match work {
                Work::Batch(batch) => self.serve(batch),
                Work::Aside(aside) => aside.run(self.base.as_mut()),
            }
        }
    }

    fn serve(&mut self, mut batch: Vec<Prepared>) {
        let begun = Instant::now();
        let images = batch.iter().map(|prepared| prepared.images.len()).sum();
        self.admission.forward_pass_begins(begun + lock(&self.times).of(images, begun));
        batch.iter_mut().for_each(|prepared| prepared.job.waits_no_more());
        self.observe_batch(&batch);
        let features = catch_unwind(AssertUnwindSafe(|| self.features(&batch)))
            .unwrap_or_else(|_| Err(BaseError::Device { detail: "the forward pass panicked".to_owned() }));
        let forward = begun.elapsed();
        self.metrics.stage_duration.with_label_values(&["forward"]).observe(forward.as_secs_f64());
        self.admission.forward_pass_ended(features.is_ok());
        match features {
            Ok(features) => self.answer(batch, &features, begun, forward),
            Err(error) => {
                tracing::error!(%error, images = batch.len(), "a forward pass failed");
                for prepared in batch {
                    prepared.job.answer(Err(EngineError::Failed { detail: error.to_string() }));
                }
            }
        }
    }

    /// Features of every image of every job. Images of one side share a forward pass: nearly always there is one side.
    fn features(&mut self, batch: &[Prepared]) -> Result<Features, BaseError> {
        let wanted =
            Wanted::for_sets(batch.iter().flat_map(|prepared| &prepared.job.heads).map(|head| head.features));
        let mut rows_by_side: BTreeMap<u32, Vec<(usize, usize)>> = BTreeMap::new();
        for (job, prepared) in batch.iter().enumerate() {
            for (number, image) in prepared.images.iter().enumerate() {
                rows_by_side.entry(image.side).or_default().push((job, number));
            }
        }
        let mut features = Features::new(self.base.widths(), wanted, batch);
        for mut rest in rows_by_side.values().map(Vec::as_slice) {
            let parts: Vec<usize> = self.sizes.parts(rest.len()).collect();
            for size in parts {
                let (rows, behind) = rest.split_at(size);
                rest = behind;
                let images: Vec<&PreparedImage> =
                    rows.iter().map(|&(job, number)| &batch[job].images[number]).collect();
                let readers = Readers::of(batch, rows);
                let found = self.forward(&images, wanted, &readers)?;
                features.add(found, rows, readers)?;
            }
        }
        Ok(features)
    }

    fn forward(
        &mut self,
        images: &[&PreparedImage],
        wanted: Wanted,
        readers: &Readers,
    ) -> Result<BranchedFeatures, BaseError> {
        let begun = Instant::now();
        let split = Split { wanted, own: readers.own, branches: &readers.branches };
        let features = self.base.forward_branches(images, split)?;
        let ended = Instant::now();
        lock(&self.times).observe(images.len(), ended.saturating_duration_since(begun), ended);
        Ok(features)
    }

    fn answer(&self, batch: Vec<Prepared>, features: &Features, begun: Instant, forward: Duration) {
        let batch_size = batch.iter().map(|prepared| prepared.images.len()).sum();
        for (number, prepared) in batch.into_iter().enumerate() {
            let Prepared { mut job, image_of_head, ready_at, .. } = prepared;
            let judging = Instant::now();
            let heads: Vec<(&Head, &[f32])> = (job.heads.iter().zip(&image_of_head))
                .map(|(head, image)| (head.as_ref(), features.of(number, *image, head)))
                .collect();
            let judgements = judge_by_all(&heads);
            let wanted_features = if job.want_features {
                heads.iter().map(|(_, features)| features.to_vec()).collect()
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
