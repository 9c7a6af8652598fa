//! The decode threads: bytes to pixels to what the base reads, beside the forward pass.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Instant,
};

use super::{
    BatchTimes, EngineError,
    job::{Arrival, ReadyJob},
    queue::{Queue, lock},
};
use crate::{
    head::Head,
    image::{ImageError, ImageLimits, ImageSource, PreparedImage, Preprocess, Roi, decode},
    metrics::{Metrics, Stage},
};

pub(super) fn spawn(
    number: usize,
    queue: Arc<Queue>,
    times: Arc<Mutex<BatchTimes>>,
    limits: ImageLimits,
    metrics: Arc<Metrics>,
) -> JoinHandle<()> {
    let work = move || {
        while let Some((id, arrival)) = queue.next_arrival() {
            if let Some(prepared) = decode_job(arrival, &times, &limits, &metrics) {
                queue.push_prepared(id, prepared);
            }
        }
    };
    spawn_named(format!("decode-{number}"), work)
}

/// A thread with a name that `top -H` shows.
///
/// # Panics
/// If the system has no thread left at start-up: there is nothing that the server could do without it.
pub(super) fn spawn_named(name: String, work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    #[expect(clippy::expect_used, reason = "only at start-up, before anything is accepted")]
    thread::Builder::new()
        .name(name)
        .spawn(work)
        .expect("the system must have room for the engine's threads")
}

/// `None` if the job ended here.
fn decode_job(
    arrival: Arrival,
    times: &Mutex<BatchTimes>,
    limits: &ImageLimits,
    metrics: &Metrics,
) -> Option<ReadyJob> {
    let Arrival { mut job, source, roi } = arrival;
    let begun = Instant::now();
    let needed = lock(times).lower_bound(job.images(), begun);
    if !job.is_wanted(begun + needed) {
        job.answer_too_late(needed, begun);
        return None;
    }
    let (preprocesses, image_of_head) = different_preprocesses(&job.heads);
    let images =
        catch_unwind(AssertUnwindSafe(|| decode_images(&source, roi, limits, &preprocesses)));
    drop(preprocesses);
    let ready_at = Instant::now();
    job.times.queue = begun.saturating_duration_since(job.accepted_at);
    job.times.decode = ready_at.saturating_duration_since(begun);
    metrics.observe_stage(Stage::Decode, job.times.decode);
    match images {
        Ok(Ok(images)) => Some(ReadyJob { job, images, image_of_head, ready_at }),
        Ok(Err(error)) => {
            job.answer(Err(error.into()));
            None
        }
        Err(_panic) => {
            job.answer(Err(EngineError::Failed {
                detail: "preparing an image panicked".to_owned(),
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

/// The preprocessings that differ, and for each head which of them it reads: heads that agree share the image.
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
