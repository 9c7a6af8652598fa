//! Forms batches: pure, without threads or clocks of its own.

use std::time::{Duration, Instant};

use super::{
    BatchTimes,
    fair_queue::{FairQueue, Waiting},
};
use crate::ids::TaskName;

/// What is ready for the device: images of different tasks share a batch, and the tasks take turns.
#[derive(Debug)]
pub struct Batcher<T> {
    max_delay: Duration,
    ready: FairQueue<Ready<T>>,
}

#[derive(Debug)]
struct Ready<T> {
    since: Instant,
    deadline: Option<Instant>,
    item: T,
}

/// What an idle device should do.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<T> {
    Batch(Batch<T>),
    /// Nothing before this moment unless something arrives.
    NotBefore(Instant),
    Empty,
}

/// In the order of the turns.
#[derive(Debug, PartialEq, Eq)]
pub struct Batch<T> {
    /// Together of one of the sizes or fewer, unless a single item has more; none if all were
    /// dropped.
    pub items: Vec<T>,
    /// No longer wanted, or certain to be too late, each with what its forward pass would take.
    pub dropped: Vec<(T, Duration)>,
}

impl<T> Batcher<T> {
    /// `max_delay`: how long the one that waits longest waits for company while the device is idle.
    /// Zero: never, and batches are no larger than pays. Otherwise they are as large as can be
    /// filled.
    pub fn new(max_delay: Duration) -> Self {
        Self { max_delay, ready: FairQueue::default() }
    }

    /// `id` is different from all others in the queue; `images` is at least 1.
    pub fn push(
        &mut self,
        task: &TaskName,
        id: u64,
        images: usize,
        deadline: Option<Instant>,
        item: T,
        now: Instant,
    ) {
        self.ready.push(task, Waiting { id, images, item: Ready { since: now, deadline, item } });
    }

    /// Takes an item out again, if it is still waiting.
    pub fn remove(&mut self, task: &TaskName, id: u64) -> Option<T> {
        self.ready.remove(task, id).map(|waiting| waiting.item.item)
    }

    pub fn is_empty(&self) -> bool {
        self.ready.images() == 0
    }

    pub fn take_all(&mut self) -> Vec<T> {
        self.ready.take_all().map(|waiting| waiting.item.item).collect()
    }

    /// What an idle device should do now.
    pub fn next(
        &mut self,
        now: Instant,
        times: &BatchTimes,
        is_wanted: impl Fn(&T) -> bool,
    ) -> Next<T> {
        let images = self.ready.images();
        if images == 0 {
            return Next::Empty;
        }
        if self.max_delay.is_zero() {
            return Next::Batch(self.form(times.best_size(images, now), now, times, is_wanted));
        }
        let oldest = self.ready.iter().map(|waiting| waiting.item.since).min().unwrap_or(now);
        let due = oldest + self.max_delay;
        if images < times.sizes().largest() && now < due {
            return Next::NotBefore(due);
        }
        Next::Batch(self.form(times.sizes().fitting(images), now, times, is_wanted))
    }

    fn form(
        &mut self,
        size: usize,
        now: Instant,
        times: &BatchTimes,
        is_wanted: impl Fn(&T) -> bool,
    ) -> Batch<T> {
        let mut batch = Batch { items: Vec::new(), dropped: Vec::new() };
        let mut room = size;
        while room > 0
            && let Some(first) = self.ready.first()
        {
            let takes = times.of(first.images.max(size), now);
            let Ready { deadline, ref item, .. } = first.item;
            if !is_wanted(item) || deadline.is_some_and(|deadline| deadline < now + takes) {
                let dropped = self.ready.drop_next();
                batch.dropped.extend(dropped.map(|waiting| (waiting.item.item, takes)));
                continue;
            }
            if first.images > room && !batch.items.is_empty() {
                break;
            }
            room = room.saturating_sub(first.images);
            batch.items.extend(self.ready.pop().map(|waiting| waiting.item.item));
        }
        batch
    }
}

#[cfg(test)]
mod tests;
