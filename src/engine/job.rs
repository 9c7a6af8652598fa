//! The engine's messages: requests, jobs and answers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{EngineError, admission::Permit, embed::EmbedJob};
use crate::{
    head::{Head, Judgement},
    ids::TaskName,
    image::{ImageSource, PreparedImage, Roi},
};

/// One picture for the heads of a [`Reservation`](super::Reservation).
#[derive(Debug)]
pub struct Request {
    pub source: ImageSource,
    pub roi: Option<Roi>,
    /// Whether to return the features that each head read.
    pub want_features: bool,
}

/// One judgement per head, in the order of the request's heads.
#[derive(Debug)]
pub struct Answer {
    pub judgements: Vec<Judgement>,
    /// What the heads read, each vector once; empty unless requested.
    pub features: Vec<Vec<f32>>,
    /// For each head the index of its vector in `features`; empty unless requested.
    pub features_of_head: Vec<usize>,
    pub times: StageTimes,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StageTimes {
    /// From bytes to preprocessed pixels.
    pub decode: Duration,
    /// Waiting for a decode thread and for a batch.
    pub queue: Duration,
    pub forward: Duration,
    pub head: Duration,
    /// From acceptance to answer.
    pub total: Duration,
    /// Images in its forward pass.
    pub batch_size: usize,
}

/// An accepted request and the channel of its answer.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) heads: Vec<Arc<Head>>,
    pub(super) want_features: bool,
    pub(super) accepted_at: Instant,
    pub(super) times: StageTimes,
    pub(super) deadline: Option<Instant>,
    reply: oneshot::Sender<Result<Answer, EngineError>>,
    permit: Permit,
}

/// What waits for a decode thread.
#[derive(Debug)]
pub(super) enum Arrival {
    Classify(ClassifyArrival),
    Embed(EmbedJob),
}

/// A job whose picture is not decoded yet.
#[derive(Debug)]
pub(super) struct ClassifyArrival {
    pub(super) job: Job,
    pub(super) source: ImageSource,
    pub(super) roi: Option<Roi>,
}

/// A job whose picture is ready for the base.
#[derive(Debug)]
pub(super) struct ReadyJob {
    pub(super) job: Job,
    /// One per distinct preprocessing.
    pub(super) images: Vec<PreparedImage>,
    /// The index of the image that each head reads.
    pub(super) image_of_head: Vec<usize>,
    pub(super) ready_at: Instant,
}

impl Arrival {
    /// Returns the task in whose flow it waits.
    pub(super) fn task(&self) -> &TaskName {
        match self {
            Self::Classify(arrival) => arrival.job.task(),
            Self::Embed(job) => job.task(),
        }
    }

    pub(super) fn images(&self) -> usize {
        match self {
            Self::Classify(arrival) => arrival.job.images(),
            Self::Embed(_) => 1,
        }
    }

    pub(super) fn refuse(self, error: EngineError) {
        match self {
            Self::Classify(arrival) => arrival.job.answer(Err(error)),
            Self::Embed(job) => job.refuse(error),
        }
    }
}

impl Job {
    pub(super) fn new(
        heads: Vec<Arc<Head>>,
        deadline: Option<Instant>,
        want_features: bool,
        reply: oneshot::Sender<Result<Answer, EngineError>>,
        permit: Permit,
    ) -> Self {
        let (accepted_at, times) = (Instant::now(), StageTimes::default());
        Self { heads, want_features, accepted_at, times, deadline, reply, permit }
    }

    /// Returns whether the caller will still wait for the answer at this time.
    pub(super) fn is_wanted(&self, at: Instant) -> bool {
        !self.reply.is_closed() && self.deadline.is_none_or(|deadline| deadline > at)
    }

    /// Returns the number of rows that it takes in a batch.
    pub(super) fn images(&self) -> usize {
        self.permit.images()
    }

    /// Returns the task in whose flow it waits.
    pub(super) fn task(&self) -> &TaskName {
        self.permit.task()
    }

    /// Marks its images as part of a forward pass that starts.
    pub(super) fn waits_no_more(&mut self) {
        self.permit.waits_no_more();
    }

    /// Answers that its forward pass, of at least `needed`, would end past the deadline.
    pub(super) fn answer_too_late(self, needed: Duration, now: Instant) {
        let left =
            self.deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(now));
        let error = if left.is_zero() {
            EngineError::DeadlinePassed
        } else {
            EngineError::DeadlineTooNear { needed, left, ahead: 0 }
        };
        self.answer(Err(error));
    }

    /// Answers, after giving the room back: the caller then finds it for its next request.
    pub(super) fn answer(mut self, answer: Result<Answer, EngineError>) {
        self.permit.give_room_back();
        // Fails if the caller went away.
        let _caller_is_gone = self.reply.send(answer);
    }
}
