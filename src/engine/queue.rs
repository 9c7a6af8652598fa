//! Where jobs wait: for a decode thread, then for the device.

use std::{
    collections::VecDeque,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{
    BatchTimes, EngineError,
    background::BackgroundJob,
    batcher::{Batch, Batcher, Next},
    embed::PreparedEmbed,
    fair_queue::{FairQueue, Waiting},
    job::{Arrival, Job, ReadyJob},
};
use crate::ids::TaskName;

/// Both queues under one lock that is held for moments only: a job can be taken back from wherever
/// it waits. In both the tasks take turns.
#[derive(Debug)]
pub(super) struct Queue {
    /// Cancelled when the queue is closed: from then on nobody waits for an answer.
    closed: CancellationToken,
    state: Mutex<State>,
    times: Arc<Mutex<BatchTimes>>,
    arrived: Condvar,
    prepared: Condvar,
}

#[derive(Debug)]
struct State {
    arrivals: FairQueue<Arrival>,
    batcher: Batcher<ReadyJob>,
    /// Those of `Embed` with the number of their arrival.
    background_jobs: VecDeque<(Option<u64>, BackgroundJob)>,
    /// A background job came last: a batch that is ready goes before the next.
    background_came_last: bool,
    /// When a decode thread last took an arrival, or the first arrival came that now waits.
    arrivals_moved_at: Instant,
    /// The same of the images that wait for the device.
    prepared_moved_at: Instant,
    next_id: u64,
    closed: bool,
}

/// What the device does next.
#[derive(Debug)]
pub(super) enum Work {
    /// At least one job, none of them cancelled or certain to be too late.
    Batch(Vec<ReadyJob>),
    BackgroundJob(BackgroundJob),
    /// Nothing is ready; only for those who do not wait.
    NothingYet,
    /// There will never be anything again.
    Closed,
}

/// Takes its job out of the queue when dropped: the caller went away or has its answer. The way on
/// which the answer would come must be closed before.
#[derive(Debug)]
pub(super) struct CancelOnDrop {
    id: u64,
    task: TaskName,
    queue: Arc<Queue>,
}

impl Queue {
    pub(super) fn new(max_delay: Duration, times: Arc<Mutex<BatchTimes>>) -> Self {
        let batcher = Batcher::new(max_delay);
        let state = State {
            arrivals: FairQueue::default(),
            batcher,
            background_jobs: VecDeque::new(),
            background_came_last: false,
            arrivals_moved_at: Instant::now(),
            prepared_moved_at: Instant::now(),
            next_id: 0,
            closed: false,
        };
        Self {
            closed: CancellationToken::new(),
            state: Mutex::new(state),
            times,
            arrived: Condvar::new(),
            prepared: Condvar::new(),
        }
    }

    fn push(self: &Arc<Self>, arrival: Arrival) -> Result<CancelOnDrop, EngineError> {
        let mut state = self.state();
        if state.closed {
            return Err(EngineError::Draining);
        }
        let id = state.next_id;
        state.next_id += 1;
        let (task, images) = (arrival.task().clone(), arrival.images());
        if state.arrivals.images() == 0 {
            state.arrivals_moved_at = Instant::now();
        }
        state.arrivals.push(&task, Waiting { id, images, item: arrival });
        drop(state);
        self.arrived.notify_one();
        Ok(CancelOnDrop { id, task, queue: self.clone() })
    }

    /// The next job to prepare; `None` when the queue is closed.
    pub(super) fn next_arrival(&self) -> Option<(u64, Arrival)> {
        let mut state = self.state();
        loop {
            if state.closed {
                return None;
            }
            if let Some(Waiting { id, item: arrival, .. }) = state.arrivals.pop() {
                state.arrivals_moved_at = Instant::now();
                return Some((id, arrival));
            }
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(super) fn push_prepared(&self, id: u64, prepared: ReadyJob) {
        let mut state = self.state();
        if state.closed {
            drop(state);
            return prepared.job.answer(Err(EngineError::Draining));
        }
        let now = Instant::now();
        // Its caller may have gone while it was in nobody's queue. Checked under the lock: a ticket
        // that is dropped later finds the job here.
        if !prepared.job.is_wanted(now) {
            drop(state);
            return prepared.job.answer_too_late(Duration::ZERO, now);
        }
        let Job { deadline, .. } = prepared.job;
        let (task, images) = (prepared.job.task().clone(), prepared.job.images());
        if state.batcher.is_empty() {
            state.prepared_moved_at = now;
        }
        state.batcher.push(&task, id, images, deadline, prepared, now);
        drop(state);
        self.prepared.notify_one();
    }

    pub(super) fn push_background(&self, background: BackgroundJob) -> Result<(), EngineError> {
        let mut state = self.state();
        if state.closed {
            return Err(EngineError::Draining);
        }
        state.background_jobs.push_back((None, background));
        drop(state);
        self.prepared.notify_one();
        Ok(())
    }

    /// Takes a picture of `Embed` that is decoded, if anybody still waits for it.
    pub(super) fn push_embed(&self, id: u64, prepared: PreparedEmbed) {
        let mut state = self.state();
        // Checked under the lock, as in `push_prepared`.
        if state.closed || !prepared.is_wanted() {
            let closed = state.closed;
            drop(state);
            return prepared.refuse(if closed {
                EngineError::Draining
            } else {
                EngineError::DeadlinePassed
            });
        }
        state.background_jobs.push_back((Some(id), prepared.into_background()));
        drop(state);
        self.prepared.notify_one();
    }

    /// The next batch or background job, in turns. Waits for one if told so.
    pub(super) fn next_work(&self, waits: bool) -> Work {
        let mut state = self.state();
        loop {
            if state.closed {
                return Work::Closed;
            }
            if !std::mem::take(&mut state.background_came_last)
                && let Some((_, background)) = state.background_jobs.pop_front()
            {
                state.background_came_last = true;
                return Work::BackgroundJob(background);
            }
            let now = Instant::now();
            let is_wanted = |prepared: &ReadyJob| prepared.job.is_wanted(now);
            let next = state.batcher.next(now, &lock(&self.times), is_wanted);
            let wait = match next {
                Next::Batch(Batch { items, dropped }) => {
                    state.prepared_moved_at = now;
                    drop(state);
                    for (prepared, needed) in dropped {
                        prepared.job.answer_too_late(needed, now);
                    }
                    if !items.is_empty() {
                        return Work::Batch(items);
                    }
                    state = self.state();
                    continue;
                }
                Next::NotBefore(_) | Next::Empty if !state.background_jobs.is_empty() => continue,
                Next::NotBefore(_) | Next::Empty if !waits => return Work::NothingYet,
                Next::NotBefore(due) => due.saturating_duration_since(now),
                Next::Empty => Duration::MAX,
            };
            state = match wait {
                Duration::MAX => self.prepared.wait(state).unwrap_or_else(PoisonError::into_inner),
                wait => {
                    self.prepared
                        .wait_timeout(state, wait)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
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
        let arrivals: Vec<_> = state.arrivals.take_all().collect();
        let prepared = state.batcher.take_all();
        let background_jobs = std::mem::take(&mut state.background_jobs);
        drop(state);
        self.arrived.notify_all();
        self.prepared.notify_all();
        arrivals.into_iter().for_each(|waiting| waiting.item.refuse(error()));
        prepared.into_iter().for_each(|prepared| prepared.job.answer(Err(error())));
        background_jobs.into_iter().for_each(|(_, background)| background.refuse(error()));
        self.closed.cancel();
    }

    /// Returns since when arrivals wait and no decode thread has taken one.
    pub(super) fn arrivals_wait_since(&self) -> Option<Instant> {
        let state = self.state();
        (state.arrivals.images() > 0).then_some(state.arrivals_moved_at)
    }

    /// Returns since when images wait for the device and it has taken none.
    pub(super) fn prepared_wait_since(&self) -> Option<Instant> {
        let state = self.state();
        (!state.batcher.is_empty()).then_some(state.prepared_moved_at)
    }

    /// Queues what arrived and waits for its answer, until its deadline or the end of the queue.
    ///
    /// Dropping the future takes it out of the queue.
    pub(super) async fn answer_of<T>(
        self: &Arc<Self>,
        arrival: Arrival,
        answer: oneshot::Receiver<Result<T, EngineError>>,
        deadline: Option<Instant>,
    ) -> Result<T, EngineError> {
        // Dropped after the receiver of the answer, which moves into the select below.
        let _cancel_on_drop = self.push(arrival)?;
        let passed = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            // A job without an answer was dropped by a thread that is gone.
            answer = answer => answer.unwrap_or(Err(EngineError::DeviceLost)),
            () = passed => Err(EngineError::DeadlinePassed),
            // Still in a forward pass when the drain time ended.
            () = self.closed.cancelled() => Err(EngineError::Draining),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        let arrival = state.arrivals.remove(&self.task, self.id);
        let prepared = state.batcher.remove(&self.task, self.id);
        let jobs = &mut state.background_jobs;
        let position = jobs.iter().position(|(id, _)| *id == Some(self.id));
        let background = position.and_then(|position| jobs.remove(position));
        // Pictures are freed and places come back outside the lock.
        drop(state);
        drop((arrival, prepared, background));
    }
}
