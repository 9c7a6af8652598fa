//! Work on the base that no request waits for, done between batches.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
};

use super::EngineError;
use crate::base::Base;

/// Something to be done with the base, and the promise to answer.
pub(super) struct BackgroundJob(Box<Work>);

/// Gets the base, or why there is none any more.
type Work = dyn FnOnce(Result<&mut dyn Base, EngineError>) + Send;

/// Receives the answer of a [`BackgroundJob`].
#[derive(Debug)]
pub(super) struct BackgroundAnswer<T>(Receiver<Result<T, EngineError>>);

impl BackgroundJob {
    pub(super) fn new<T: Send + 'static>(
        work: impl FnOnce(&mut dyn Base) -> T + Send + 'static,
    ) -> (Self, BackgroundAnswer<T>) {
        let (reply, answer): (SyncSender<Result<T, EngineError>>, _) = sync_channel(1);
        let background = move |base: Result<&mut dyn Base, EngineError>| {
            let panicked = |_| EngineError::Failed { detail: "the base panicked".to_owned() };
            let done = base
                .and_then(|base| catch_unwind(AssertUnwindSafe(|| work(base))).map_err(panicked));
            // Whoever asked may have ended meanwhile.
            let _nobody_waits = reply.send(done);
        };
        (Self::of(background), BackgroundAnswer(answer))
    }

    /// Takes work that answers by itself and does not panic.
    pub(super) fn of(
        work: impl FnOnce(Result<&mut dyn Base, EngineError>) + Send + 'static,
    ) -> Self {
        Self(Box::new(work))
    }

    pub(super) fn run(self, base: &mut dyn Base) {
        self.0(Ok(base));
    }

    pub(super) fn refuse(self, error: EngineError) {
        self.0(Err(error));
    }
}

impl fmt::Debug for BackgroundJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BackgroundJob")
    }
}

impl<T> BackgroundAnswer<T> {
    /// Blocks until it is there; a job that was dropped unanswered was dropped by a queue that
    /// closed.
    pub(super) fn wait(self) -> Result<T, EngineError> {
        self.0.recv().unwrap_or(Err(EngineError::Draining))
    }
}
