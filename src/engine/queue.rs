//! Where jobs wait: for a prepare thread, then for the device.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::{
    EngineError,
    batcher::{BatchRule, Batcher, Next},
    job::{Arrival, Fate, Prepared},
};

/// Both queues under one lock that is held for moments only: a job can be taken back from wherever it waits.
#[derive(Debug)]
pub(super) struct Queue {
    /// Cancelled when the queue is closed: from then on nobody waits for an answer.
    closed: CancellationToken,
    state: Mutex<State>,
    arrived: Condvar,
    prepared: Condvar,
}

#[derive(Debug)]
struct State {
    arrivals: VecDeque<(u64, Arrival)>,
    batcher: Batcher<Prepared>,
    next_id: u64,
    closed: bool,
}

/// Takes its job out of the queue when dropped: the caller went away or has its answer. The way on which the answer
/// would come must be closed before.
#[derive(Debug)]
pub(super) struct Ticket {
    id: u64,
    queue: Arc<Queue>,
}

impl Queue {
    pub(super) fn new(rule: BatchRule) -> Self {
        let state =
            State { arrivals: VecDeque::new(), batcher: Batcher::new(rule), next_id: 0, closed: false };
        Self {
            closed: CancellationToken::new(),
            state: Mutex::new(state),
            arrived: Condvar::new(),
            prepared: Condvar::new(),
        }
    }

    pub(super) fn push(self: &Arc<Self>, arrival: Arrival) -> Result<Ticket, EngineError> {
        let mut state = self.state();
        if state.closed {
            return Err(EngineError::Draining);
        }
        let id = state.next_id;
        state.next_id += 1;
        state.arrivals.push_back((id, arrival));
        drop(state);
        self.arrived.notify_one();
        Ok(Ticket { id, queue: self.clone() })
    }

    /// The next job to prepare; `None` when the queue is closed.
    pub(super) fn next_arrival(&self) -> Option<(u64, Arrival)> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            if let Some(arrival) = state.arrivals.pop_front() {
                return Some(arrival);
            }
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(super) fn push_prepared(&self, id: u64, prepared: Prepared) {
        let mut state = self.state();
        if state.closed {
            drop(state);
            return prepared.job.answer(Err(EngineError::Draining));
        }
        let now = Instant::now();
        // Its caller may have gone while it was in nobody's queue. Checked under the lock: a ticket that is dropped
        // later finds the job here.
        if prepared.job.fate(now) != Fate::Live {
            drop(state);
            return bury(vec![prepared], now);
        }
        state.batcher.push(id, prepared.job.images(), prepared, now);
        drop(state);
        self.prepared.notify_one();
    }

    /// The next batch, without anything expired or cancelled; `None` when the queue is closed.
    pub(super) fn next_batch(&self) -> Option<Vec<Prepared>> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            let now = Instant::now();
            let dead = state.batcher.take_dead(|prepared| prepared.job.fate(now) == Fate::Live);
            if !dead.is_empty() {
                drop(state);
                bury(dead, now);
                state = self.state();
                continue;
            }
            let wait = match state.batcher.next(now) {
                Next::Batch(batch) => return Some(batch),
                Next::NotBefore(due) => due.saturating_duration_since(now),
                Next::Empty => Duration::MAX,
            };
            state = match wait {
                Duration::MAX => self.prepared.wait(state).unwrap_or_else(PoisonError::into_inner),
                wait => self.prepared.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
    }

    /// Ends the threads that wait and answers what waits.
    pub(super) fn close(&self) {
        self.close_with(|| EngineError::Draining);
    }

    pub(super) fn close_with(&self, error: impl Fn() -> EngineError) {
        let mut state = self.state();
        state.closed = true;
        let arrivals = std::mem::take(&mut state.arrivals);
        let prepared = state.batcher.take_all();
        drop(state);
        self.arrived.notify_all();
        self.prepared.notify_all();
        let jobs = arrivals.into_iter().map(|(_, arrival)| arrival.job);
        for job in jobs.chain(prepared.into_iter().map(|prepared| prepared.job)) {
            job.answer(Err(error()));
        }
        self.closed.cancel();
    }

    /// Completes when the queue is closed.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers what expired; what was cancelled has nobody to answer.
fn bury(dead: Vec<Prepared>, now: Instant) {
    for prepared in dead {
        match prepared.job.fate(now) {
            Fate::Expired => prepared.job.answer(Err(EngineError::DeadlinePassed)),
            Fate::Cancelled | Fate::Live => {}
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        let arrival = state.arrivals.iter().position(|(id, _)| *id == self.id);
        let arrival = arrival.and_then(|position| state.arrivals.remove(position));
        let prepared = state.batcher.remove(self.id);
        // Pictures are freed and places come back outside the lock.
        drop(state);
        drop((arrival, prepared));
    }
}
