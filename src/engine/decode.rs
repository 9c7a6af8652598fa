//! The decode threads: from bytes to pixels to the base's input, in parallel with forward passes.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Instant,
};

use super::{
    BatchTimes, EngineError,
    job::{Arrival, ClassifyArrival, ReadyJob},
    queue::{Queue, lock},
};
use crate::{
    head::Head,
    image::{
        DecodeBudget, DecodeMemory, ImageError, ImageLimits, ImageSource, PreparedImage,
        Preprocess, Roi, decode,
    },
    metrics::{Metrics, Stage},
};

pub(super) fn spawn(
    number: usize,
    queue: Arc<Queue>,
    times: Arc<Mutex<BatchTimes>>,
    limits: ImageLimits,
    budget: &Arc<DecodeBudget>,
    metrics: Arc<Metrics>,
) -> JoinHandle<()> {
    let share = budget.share();
    let limits = ImageLimits { memory: DecodeMemory::of(share.clone()), ..limits };
    let decode_all = move || {
        while let Some((id, arrival)) = queue.next_arrival() {
            match arrival {
                Arrival::Classify(arrival) => {
                    let ready = decode_job(arrival, &times, &limits, &metrics);
                    share.give_back();
                    if let Some(ready) = ready {
                        queue.push_prepared(id, ready);
                    }
                }
                Arrival::Embed(job) => {
                    let prepared = job.prepare(&limits);
                    share.give_back();
                    if let Some(prepared) = prepared {
                        queue.push_embed(id, prepared);
                    }
                }
            }
        }
    };
    let work = move || {
        // A panic drops its job, whose caller is then answered; the thread goes on.
        while catch_unwind(AssertUnwindSafe(&decode_all)).is_err() {
            tracing::error!(thread = number, "a decode thread panicked, it goes on");
        }
    };
    spawn_named(format!("decode-{number}"), work)
}

/// Spawns a thread with a name that `top -H` shows.
///
/// # Panics
/// If the system cannot spawn a thread; the server cannot run without it.
pub(super) fn spawn_named(name: String, work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    #[expect(clippy::expect_used, reason = "only at start-up, before any request is accepted")]
    thread::Builder::new()
        .name(name)
        .spawn(work)
        .expect("the system must have room for the engine's threads")
}

/// Decodes a job; `None` if the job was answered with an error.
fn decode_job(
    arrival: ClassifyArrival,
    times: &Mutex<BatchTimes>,
    limits: &ImageLimits,
    metrics: &Metrics,
) -> Option<ReadyJob> {
    let ClassifyArrival { mut job, source, roi } = arrival;
    let started = Instant::now();
    let needed = lock(times).lower_bound(job.images(), started);
    if !job.is_wanted(started + needed) {
        job.answer_too_late(needed, started);
        return None;
    }
    let (preprocesses, image_of_head) = different_preprocesses(&job.heads);
    let images =
        catch_unwind(AssertUnwindSafe(|| decode_images(&source, roi, limits, &preprocesses)));
    drop(preprocesses);
    let ready_at = Instant::now();
    job.times.queue = started.saturating_duration_since(job.accepted_at);
    job.times.decode = ready_at.saturating_duration_since(started);
    metrics.observe_stage(Stage::Decode, job.times.decode);
    match images {
        Ok(Ok(images)) => Some(ReadyJob { job, images, image_of_head, ready_at }),
        Ok(Err(error)) => {
            job.answer(Err(error.into()));
            None
        }
        Err(_panic) => {
            job.answer(Err(EngineError::Failed {
                detail: "decoding an image panicked".to_owned(),
            }));
            None
        }
    }
}

fn decode_images(
    source: &ImageSource,
    roi: Option<Roi>,
    limits: &ImageLimits,
    preprocesses: &[&Preprocess],
) -> Result<Vec<PreparedImage>, ImageError> {
    let picture = decode(source, limits)?;
    preprocesses.iter().map(|preprocess| preprocess.apply(&picture, roi)).collect()
}

/// Returns the distinct preprocessings, and for each head the index of the one it reads.
pub(super) fn different_preprocesses(heads: &[Arc<Head>]) -> (Vec<&Preprocess>, Vec<usize>) {
    let mut different: Vec<&Preprocess> = Vec::new();
    let image_of_head = heads.iter().map(|head| {
        let known = different.iter().position(|preprocess| **preprocess == head.preprocess);
        known.unwrap_or_else(|| {
            different.push(&head.preprocess);
            different.len() - 1
        })
    });
    let image_of_head = image_of_head.collect();
    (different, image_of_head)
}
