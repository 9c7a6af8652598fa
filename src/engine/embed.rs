//! Computes the features of single pictures, for training on the server's device.
//!
//! Pictures are decoded on the decode threads, and computed between batches.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::timeout_at,
};

use super::{
    EngineError,
    admission::{Permit, ReserveRequest},
    background::BackgroundJob,
    error::Unit,
    job::Arrival,
    queue::lock,
};
use crate::{
    base::{Base, FeatureSet, Outputs},
    ids::TaskName,
    image::{ImageLimits, ImageSource, PreparedImage, Preprocess, Roi, decode},
};

/// Pictures of [`Engine::embed`](super::Engine::embed) that are decoded or wait for the device.
pub const MOST_EMBEDDING: usize = 16;

/// A picture to compute the features of.
#[derive(Debug)]
pub struct EmbedRequest {
    pub source: ImageSource,
    pub roi: Option<Roi>,
    pub preprocess: Preprocess,
    /// Bytes of the message that holds the picture.
    pub bytes: usize,
    /// When the caller stops waiting; without one, it is answered within
    /// [`max_wait`](super::EngineConfig::max_wait).
    pub deadline: Option<Instant>,
}

/// An accepted picture and the channel of its features.
///
/// Guarantees:
/// 1. Its place among the [`MOST_EMBEDDING`] and its share of the queue end with the work, not with
///    the caller's future: what a thread still decodes or computes is counted until it ends.
/// 2. Nothing is decoded or computed for a caller that left or whose deadline has passed.
/// 3. It is answered once: with features, or with why there are none.
#[derive(Debug)]
pub(super) struct EmbedJob {
    source: ImageSource,
    roi: Option<Roi>,
    preprocess: Preprocess,
    place: Place,
}

/// A picture that is decoded and waits for the device.
#[derive(Debug)]
pub(super) struct PreparedEmbed {
    picture: PreparedImage,
    place: Place,
}

/// The bounds that a picture takes its share of, and the way back to its caller.
#[derive(Debug)]
struct Place {
    deadline: Instant,
    reply: oneshot::Sender<Result<Vec<f32>, EngineError>>,
    permit: Permit,
    slot: OwnedSemaphorePermit,
}

impl super::Engine {
    /// Returns the feature set `pyramid` of one picture, computed between two batches.
    ///
    /// Waits for a place, unlike a request to be classified. Dropping the future takes the picture
    /// out of the queue; what is being decoded or computed then keeps its place until it ends.
    ///
    /// # Errors
    /// If there is no place or no answer in time, the picture cannot be decoded, the forward pass
    /// fails, or the engine shuts down.
    pub async fn embed(&self, request: EmbedRequest) -> Result<Vec<f32>, EngineError> {
        let EmbedRequest { source, roi, preprocess, bytes, deadline: own_deadline } = request;
        let shared = &self.shared;
        let deadline = own_deadline.unwrap_or_else(|| Instant::now() + shared.max_wait);
        let too_late =
            |full: EngineError| own_deadline.map_or(full, |_| EngineError::DeadlinePassed);
        let slot = take_slot(&shared.embedding, deadline).await.map_err(too_late)?;
        let task = TaskName::of_embed();
        let permit = loop {
            let freed = shared.admission.freed();
            tokio::pin!(freed);
            // From here on a wake-up is not missed.
            freed.as_mut().enable();
            let request =
                ReserveRequest { task: &task, images: 1, bytes, deadline: None, sent_before: true };
            let reserved =
                shared.admission.try_reserve(&request, &lock(&shared.times), Instant::now());
            match reserved {
                Err(full @ (EngineError::QueueFull { .. } | EngineError::TaskShareFull { .. })) => {
                    timeout_at(deadline.into(), freed).await.map_err(|_| too_late(full))?
                }
                done => break done?,
            }
        };
        let (reply, answer) = oneshot::channel();
        let place = Place { deadline, reply, permit, slot };
        let arrival = Arrival::Embed(EmbedJob { source, roi, preprocess, place });
        self.shared.queue.answer_of(arrival, answer, Some(deadline)).await
    }
}

async fn take_slot(
    slots: &Arc<Semaphore>,
    deadline: Instant,
) -> Result<OwnedSemaphorePermit, EngineError> {
    let limit = MOST_EMBEDDING;
    let full = EngineError::QueueFull { unit: Unit::Images, needed: 1, in_use: limit, limit };
    match timeout_at(deadline.into(), slots.clone().acquire_owned()).await {
        Ok(Ok(slot)) => Ok(slot),
        // The semaphore is never closed.
        Ok(Err(_)) | Err(_) => Err(full),
    }
}

impl EmbedJob {
    pub(super) fn task(&self) -> &TaskName {
        self.place.permit.task()
    }

    /// Decodes the picture; `None` if the job was answered with an error.
    pub(super) fn prepare(self, limits: &ImageLimits) -> Option<PreparedEmbed> {
        let Self { source, roi, preprocess, place } = self;
        if !place.is_wanted() {
            place.answer(Err(EngineError::DeadlinePassed));
            return None;
        }
        let prepared = catch_unwind(AssertUnwindSafe(|| {
            decode(&source, limits).and_then(|picture| preprocess.apply(&picture, roi))
        }));
        drop(source);
        match prepared {
            Ok(Ok(picture)) => Some(PreparedEmbed { picture, place }),
            Ok(Err(error)) => {
                place.answer(Err(error.into()));
                None
            }
            Err(_panic) => {
                let detail = "decoding an image panicked".to_owned();
                place.answer(Err(EngineError::Failed { detail }));
                None
            }
        }
    }

    pub(super) fn refuse(self, error: EngineError) {
        self.place.answer(Err(error));
    }
}

impl PreparedEmbed {
    pub(super) fn is_wanted(&self) -> bool {
        self.place.is_wanted()
    }

    pub(super) fn refuse(self, error: EngineError) {
        self.place.answer(Err(error));
    }

    pub(super) fn into_background(self) -> BackgroundJob {
        let Self { picture, place } = self;
        BackgroundJob::of(move |base| compute_and_answer(base, &picture, place))
    }
}

fn compute_and_answer(
    base: Result<&mut dyn Base, EngineError>,
    picture: &PreparedImage,
    mut place: Place,
) {
    if !place.is_wanted() {
        return place.answer(Err(EngineError::DeadlinePassed));
    }
    place.permit.waits_no_more();
    let computed = base.and_then(|base| {
        let outputs = Outputs::for_sets([FeatureSet::Pyramid]);
        let failed = |detail| EngineError::Failed { detail };
        catch_unwind(AssertUnwindSafe(|| base.forward(&[picture], outputs)))
            .map_err(|_panic| failed("the base panicked".to_owned()))?
            .map_err(|error| failed(error.to_string()))
    });
    place.answer(computed.map(|features| features.pyramid));
}

impl Place {
    fn is_wanted(&self) -> bool {
        !self.reply.is_closed() && Instant::now() < self.deadline
    }

    /// Answers, after giving the place back: the caller then finds it for its next picture.
    fn answer(mut self, answer: Result<Vec<f32>, EngineError>) {
        self.permit.give_room_back();
        drop(self.slot);
        // Fails if the caller went away.
        let _caller_is_gone = self.reply.send(answer);
    }
}
