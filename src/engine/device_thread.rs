//! The one thread that owns the base: a forward pass a batch, then each row's own heads.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{
    Answer, BatchSizes, BatchTimes, EngineError,
    admission::Admission,
    batch_features::{FeatureDemand, Features, distinct_features},
    decode::spawn_named,
    job::ReadyJob,
    progress::DeviceProgress,
    queue::{Queue, Work, lock},
};
use crate::{
    base::{Base, BaseError, ForwardRequest, Outputs, PassStatus},
    head::{Head, judge_by_all},
    image::{PreparedImage, Preprocess},
    metrics::{Metrics, Stage},
};

pub(super) fn spawn(
    base: Box<dyn Base>,
    queue: Arc<Queue>,
    admission: Arc<Admission>,
    times: Arc<Mutex<BatchTimes>>,
    progress: Arc<DeviceProgress>,
    metrics: Arc<Metrics>,
) -> JoinHandle<()> {
    let sizes = lock(&times).sizes().clone();
    let device_free_at = Instant::now();
    let thread =
        DeviceThread { base, queue, admission, times, sizes, progress, metrics, device_free_at };
    spawn_named("device".to_owned(), move || thread.run())
}

/// Forward passes of every size, of everything that a head may want: the first request finds warm
/// caches, and what a batch takes is known.
pub(super) fn warm_up(base: &mut dyn Base, sizes: BatchSizes) -> Result<BatchTimes, BaseError> {
    let image = any_image();
    // The first pass of a size also gets memory and chooses kernels for it; where several can be in
    // flight the second is recorded as well.
    let passes = if base.in_flight() > 1 { 3 } else { 2 };
    let mut pass = |images: &[&PreparedImage]| -> Result<Duration, BaseError> {
        let begun = Instant::now();
        base.forward(images, Outputs { pyramid: true, map: false })?;
        Ok(begun.elapsed())
    };
    BatchTimes::measured(sizes, |size| {
        let images = vec![&image; size];
        let mut takes = Duration::MAX;
        for _ in 0..passes {
            takes = takes.min(pass(&images)?);
        }
        tracing::debug!(images = size, ?takes, "warm");
        Ok(takes)
    })
}

fn any_image() -> PreparedImage {
    let Preprocess { mean, std, .. } = Preprocess::default();
    let side = Preprocess::default().side();
    let pixels = (0..side * side * 3).map(|index| (index % 251) as u8).collect();
    PreparedImage { side, pixels, mean, std }
}

/// Runs a forward pass of one image to find out whether a lost device is back.
pub(super) fn try_device(base: &mut dyn Base, admission: &Admission) {
    let outputs = Outputs { pyramid: true, map: false };
    let well = or_panicked(|| base.forward(&[&any_image()], outputs));
    admission.end_trial(well.is_ok());
}

struct DeviceThread {
    base: Box<dyn Base>,
    queue: Arc<Queue>,
    admission: Arc<Admission>,
    times: Arc<Mutex<BatchTimes>>,
    sizes: BatchSizes,
    progress: Arc<DeviceProgress>,
    metrics: Arc<Metrics>,
    /// The device was busy with passes that have ended until then.
    device_free_at: Instant,
}

/// A batch whose forward passes were begun.
struct InFlight {
    batch: Vec<ReadyJob>,
    begun_at: Instant,
    /// One for all as a rule; several where images have different sides or are more than the
    /// largest size.
    passes: Vec<RunningPass>,
    /// Why not all of them could be begun.
    failure: Option<BaseError>,
}

struct RunningPass {
    /// (job, image)
    rows: Vec<(usize, usize)>,
    readers: FeatureDemand,
    begun_at: Instant,
    begun: PassStatus,
}

/// Fails whatever is pending if the thread ends by a panic of its own.
struct FailPendingOnExit {
    queue: Arc<Queue>,
    admission: Arc<Admission>,
}

impl Drop for FailPendingOnExit {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.admission.device_is_gone();
        }
        self.queue.close_with(|| EngineError::DeviceLost);
    }
}

impl DeviceThread {
    /// Begins batches as long as the device takes them, then waits for the oldest.
    fn run(mut self) {
        let queue = self.queue.clone();
        let _guard = FailPendingOnExit { queue: queue.clone(), admission: self.admission.clone() };
        let mut in_flight = VecDeque::new();
        loop {
            if in_flight.len() < self.base.in_flight() {
                match queue.next_work(in_flight.is_empty()) {
                    Work::Batch(batch) => {
                        let batch = self.begin(batch);
                        let is_running = batch.is_running();
                        in_flight.push_back(batch);
                        if !is_running {
                            // The device has nothing left to do meanwhile: nobody waits for the
                            // next batch.
                            in_flight.drain(..).for_each(|batch| self.finish(batch));
                        }
                        continue;
                    }
                    Work::BackgroundJob(background) => {
                        in_flight.drain(..).for_each(|batch| self.finish(batch));
                        let now = Instant::now();
                        let expected = lock(&self.times).of(self.sizes.largest(), now);
                        self.progress.begin(expected, now);
                        background.run(self.base.as_mut());
                        self.progress.end(Instant::now());
                        continue;
                    }
                    Work::NothingYet => {}
                    Work::Closed => break,
                }
            }
            if let Some(oldest) = in_flight.pop_front() {
                self.finish(oldest);
            }
        }
        in_flight.into_iter().for_each(|batch| self.finish(batch));
    }

    fn begin(&mut self, mut batch: Vec<ReadyJob>) -> InFlight {
        let begun_at = Instant::now();
        let images = batch.iter().map(|prepared| prepared.images.len()).sum();
        let takes = lock(&self.times).of(images, begun_at);
        self.admission.forward_pass_begins(takes, begun_at);
        self.progress.begin(takes, begun_at);
        batch.iter_mut().for_each(|prepared| prepared.job.waits_no_more());
        self.observe_batch(&batch);
        let mut passes = Vec::new();
        let failure = or_panicked(|| self.begin_passes(&batch, &mut passes)).err();
        InFlight { batch, begun_at, passes, failure }
    }

    /// Images of one side share a forward pass: nearly always there is one side.
    fn begin_passes(
        &mut self,
        batch: &[ReadyJob],
        passes: &mut Vec<RunningPass>,
    ) -> Result<(), BaseError> {
        let outputs = outputs(batch);
        let mut rows_by_side: BTreeMap<u32, Vec<(usize, usize)>> = BTreeMap::new();
        for (job, prepared) in batch.iter().enumerate() {
            for (number, image) in prepared.images.iter().enumerate() {
                rows_by_side.entry(image.side).or_default().push((job, number));
            }
        }
        for mut rest in rows_by_side.values().map(Vec::as_slice) {
            let parts: Vec<usize> = self.sizes.parts(rest.len()).collect();
            for size in parts {
                let (rows, behind) = rest.split_at(size);
                rest = behind;
                passes.push(self.begin_pass(batch, rows, outputs)?);
            }
        }
        Ok(())
    }

    fn begin_pass(
        &mut self,
        batch: &[ReadyJob],
        rows: &[(usize, usize)],
        outputs: Outputs,
    ) -> Result<RunningPass, BaseError> {
        let begun_at = Instant::now();
        let images: Vec<&PreparedImage> =
            rows.iter().map(|&(job, number)| &batch[job].images[number]).collect();
        let readers = FeatureDemand::of(batch, rows);
        let split = ForwardRequest { outputs, own: readers.own, branches: &readers.branches };
        let begun = self.base.begin(&images, split)?;
        if matches!(begun, PassStatus::Done(_)) {
            self.observe_pass(rows.len(), begun_at);
        }
        Ok(RunningPass { rows: rows.to_vec(), readers, begun_at, begun })
    }

    fn finish(&mut self, InFlight { batch, begun_at, passes, failure }: InFlight) {
        let features = or_panicked(|| self.features(&batch, passes, failure));
        let forward = begun_at.elapsed();
        self.metrics.observe_stage(Stage::Forward, forward);
        self.admission.forward_pass_ended(features.is_ok());
        match features {
            Ok(features) => self.answer(batch, &features, begun_at, forward),
            Err(error) => {
                tracing::error!(%error, images = batch.len(), "a forward pass failed");
                for prepared in batch {
                    prepared.job.answer(Err(EngineError::Failed { detail: error.to_string() }));
                }
            }
        }
        self.progress.end(Instant::now());
    }

    /// Waits for the passes and gathers the features of every image of every job.
    fn features(
        &mut self,
        batch: &[ReadyJob],
        passes: Vec<RunningPass>,
        mut failure: Option<BaseError>,
    ) -> Result<Features, BaseError> {
        let mut features = Features::new(self.base.widths(), outputs(batch), batch);
        // Also after a failure every lane is waited for: it must be free for the next.
        for RunningPass { rows, readers, begun_at, begun } in passes {
            let found = match begun {
                PassStatus::Done(found) => Ok(found),
                PassStatus::Running(stream) => {
                    let found = self.base.finish(stream);
                    self.observe_pass(rows.len(), begun_at);
                    found
                }
            };
            if let Err(error) = found.and_then(|found| features.add(found, &rows, readers)) {
                failure.get_or_insert(error);
            }
        }
        failure.map_or(Ok(features), Err)
    }

    /// A pass has ended that had the device for itself since it was begun, or since the one before
    /// it ended.
    fn observe_pass(&mut self, images: usize, begun_at: Instant) {
        let now = Instant::now();
        let since = begun_at.max(self.device_free_at);
        lock(&self.times).observe(images, now.saturating_duration_since(since), now);
        self.device_free_at = now;
    }

    fn answer(
        &self,
        batch: Vec<ReadyJob>,
        features: &Features,
        begun_at: Instant,
        forward: Duration,
    ) {
        let batch_size = batch.iter().map(|prepared| prepared.images.len()).sum();
        for (number, prepared) in batch.into_iter().enumerate() {
            let ReadyJob { mut job, image_of_head, ready_at, .. } = prepared;
            let judging = Instant::now();
            let judged = catch_unwind(AssertUnwindSafe(|| {
                let heads: Vec<(&Head, &[f32])> = (job.heads.iter().zip(&image_of_head))
                    .map(|(head, image)| (head.as_ref(), features.of(number, *image, head)))
                    .collect();
                let distinct = if job.want_features {
                    distinct_features(heads.iter().map(|(_, features)| *features))
                } else {
                    Default::default()
                };
                (judge_by_all(&heads), distinct)
            }));
            let Ok((judgements, (features, features_of_head))) = judged else {
                let detail = "judging an image panicked".to_owned();
                job.answer(Err(EngineError::Failed { detail }));
                continue;
            };
            let now = Instant::now();
            job.times.queue += begun_at.saturating_duration_since(ready_at);
            job.times.forward = forward;
            job.times.head = now.saturating_duration_since(judging);
            job.times.total = now.saturating_duration_since(job.accepted_at);
            job.times.batch_size = batch_size;
            let times = job.times;
            for (stage, time) in [(Stage::Queue, times.queue), (Stage::Head, times.head)] {
                self.metrics.observe_stage(stage, time);
            }
            job.answer(Ok(Answer { judgements, features, features_of_head, times }));
        }
    }

    fn observe_batch(&self, batch: &[ReadyJob]) {
        let images: usize = batch.iter().map(|prepared| prepared.images.len()).sum();
        let tasks: HashSet<_> =
            batch.iter().flat_map(|prepared| &prepared.job.heads).map(|head| &head.task).collect();
        self.metrics.batch_images.record(images as f64);
        self.metrics.batch_tasks.record(tasks.len() as f64);
    }
}

impl InFlight {
    fn is_running(&self) -> bool {
        self.passes.iter().any(|pass| matches!(pass.begun, PassStatus::Running(_)))
    }
}

/// What the heads of a batch read together.
fn outputs(batch: &[ReadyJob]) -> Outputs {
    Outputs::for_sets(
        batch.iter().flat_map(|prepared| &prepared.job.heads).map(|head| head.features),
    )
}

fn or_panicked<T>(work: impl FnOnce() -> Result<T, BaseError>) -> Result<T, BaseError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(BaseError::Device { detail: "the forward pass panicked".to_owned() })
    })
}
