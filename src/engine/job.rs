//! What travels through the engine.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{EngineError, admission::Permit};
use crate::{
    head::{Head, Judgement},
    ids::TaskName,
    image::{ImageSource, PreparedImage, Roi},
};

/// One picture that the heads of a [`Slot`](super::Slot) shall judge.
#[derive(Debug)]
pub struct Request {
    pub source: ImageSource,
    pub roi: Option<Roi>,
    /// Also give back the features that each head read.
    pub want_features: bool,
}

/// One judgement a head, in the order of the request's heads.
#[derive(Debug)]
pub struct Answer {
    pub judgements: Vec<Judgement>,
    /// One vector a head; empty unless wanted.
    pub features: Vec<Vec<f32>>,
    pub times: StageTimes,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StageTimes {
    /// Bytes to prepared pixels.
    pub decode: Duration,
    /// Waiting: for a decode thread, and for a place in a batch.
    pub queue: Duration,
    pub forward: Duration,
    pub head: Duration,
    /// From acceptance to answer.
    pub total: Duration,
    /// Images in the forward pass that this one was part of.
    pub batch_size: usize,
}

/// A request on its way, and the promise to answer it.
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

/// A job whose picture is still bytes.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) job: Job,
    pub(super) source: ImageSource,
    pub(super) roi: Option<Roi>,
}

/// A job whose picture is ready for the base.
#[derive(Debug)]
pub(super) struct ReadyJob {
    pub(super) job: Job,
    /// One for each different preprocessing.
    pub(super) images: Vec<PreparedImage>,
    /// For each head the image that it reads.
    pub(super) image_of_head: Vec<usize>,
    pub(super) ready_at: Instant,
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

    /// Whether somebody will still wait for the answer at this moment.
    pub(super) fn is_wanted(&self, at: Instant) -> bool {
        !self.reply.is_closed() && self.deadline.is_none_or(|deadline| deadline > at)
    }

    /// Rows that it takes of a batch.
    pub(super) fn images(&self) -> usize {
        self.permit.images()
    }

    /// In whose line it waits.
    pub(super) fn task(&self) -> &TaskName {
        self.permit.task()
    }

    /// Its images are in the forward pass that begins.
    pub(super) fn waits_no_more(&mut self) {
        self.permit.waits_no_more();
    }

    /// Answers that its forward pass, which takes at least so long, would end past the deadline.
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

    /// Gives the place back first: a caller that has its answer finds room for its next request.
    pub(super) fn answer(self, answer: Result<Answer, EngineError>) {
        drop(self.permit);
        // The caller may have gone away meanwhile.
        let _caller_is_gone = self.reply.send(answer);
    }
}
