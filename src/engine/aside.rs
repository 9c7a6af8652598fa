//! Forward passes that nobody's request waits for: they are done between batches.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::EngineError;
use crate::{
    base::{FeatureBatch, Wanted},
    image::PreparedImage,
};

/// Pictures whose features are wanted, and the promise to answer.
#[derive(Debug)]
pub(super) struct Aside {
    pub(super) pictures: Vec<PreparedImage>,
    pub(super) wanted: Wanted,
    reply: SyncSender<Result<FeatureBatch, EngineError>>,
}

/// What is to become of an [`Aside`].
#[derive(Debug)]
pub(super) struct AsideAnswer(Receiver<Result<FeatureBatch, EngineError>>);

impl Aside {
    pub(super) fn new(pictures: Vec<PreparedImage>, wanted: Wanted) -> (Self, AsideAnswer) {
        let (reply, answer) = sync_channel(1);
        (Self { pictures, wanted, reply }, AsideAnswer(answer))
    }

    pub(super) fn answer(self, result: Result<FeatureBatch, EngineError>) {
        // Whoever asked may have ended meanwhile.
        let _nobody_waits = self.reply.send(result);
    }
}

impl AsideAnswer {
    /// Blocks until it is there; an aside that was dropped unanswered was dropped by a queue that closed.
    pub(super) fn wait(self) -> Result<FeatureBatch, EngineError> {
        self.0.recv().unwrap_or(Err(EngineError::Draining))
    }
}
