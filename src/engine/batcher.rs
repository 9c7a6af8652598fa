//! Forms batches: pure, without threads or clocks of its own.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

#[derive(Debug, Clone, Copy)]
pub(super) struct BatchRule {
    pub(super) max_images: usize,
    /// How long the oldest waits for company while the device is idle.
    pub(super) max_delay: Duration,
}

/// First come, first served, whatever the task.
#[derive(Debug)]
pub(super) struct Batcher<T> {
    rule: BatchRule,
    waiting: VecDeque<Waiting<T>>,
}

#[derive(Debug)]
struct Waiting<T> {
    id: u64,
    images: usize,
    since: Instant,
    item: T,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<T> {
    /// In the order of arrival; at most `max_images` together, unless a single item has more.
    Batch(Vec<T>),
    /// Nothing is ready before this moment unless something arrives.
    NotBefore(Instant),
    Empty,
}

impl<T> Batcher<T> {
    pub(super) fn new(rule: BatchRule) -> Self {
        Self { rule, waiting: VecDeque::new() }
    }

    pub(super) fn push(&mut self, id: u64, images: usize, item: T, now: Instant) {
        self.waiting.push_back(Waiting { id, images, since: now, item });
    }

    /// Takes an item out again, if it is still waiting.
    pub(super) fn remove(&mut self, id: u64) -> Option<T> {
        let position = self.waiting.iter().position(|waiting| waiting.id == id)?;
        self.waiting.remove(position).map(|waiting| waiting.item)
    }

    /// Takes out what is not worth a place in a batch.
    pub(super) fn take_dead(&mut self, is_live: impl Fn(&T) -> bool) -> Vec<T> {
        let (live, dead) =
            std::mem::take(&mut self.waiting).into_iter().partition(|waiting| is_live(&waiting.item));
        self.waiting = live;
        let dead: VecDeque<Waiting<T>> = dead;
        dead.into_iter().map(|waiting| waiting.item).collect()
    }

    pub(super) fn take_all(&mut self) -> Vec<T> {
        self.waiting.drain(..).map(|waiting| waiting.item).collect()
    }

    /// What an idle device should do now.
    pub(super) fn next(&mut self, now: Instant) -> Next<T> {
        let Some(oldest) = self.waiting.front() else { return Next::Empty };
        let due = oldest.since + self.rule.max_delay;
        let images: usize = self.waiting.iter().map(|waiting| waiting.images).sum();
        if images < self.rule.max_images && now < due {
            return Next::NotBefore(due);
        }
        let mut room = self.rule.max_images;
        let mut count = 0;
        for waiting in &self.waiting {
            if count > 0 && waiting.images > room {
                break;
            }
            room = room.saturating_sub(waiting.images);
            count += 1;
        }
        Next::Batch(self.waiting.drain(..count).map(|waiting| waiting.item).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batcher(max_images: usize, max_delay_ms: u64, images: &[usize], now: Instant) -> Batcher<usize> {
        let mut batcher =
            Batcher::new(BatchRule { max_images, max_delay: Duration::from_millis(max_delay_ms) });
        for (id, images) in images.iter().enumerate() {
            batcher.push(id as u64, *images, id, now);
        }
        batcher
    }

    #[test]
    fn an_idle_device_never_waits_when_no_delay_is_set() {
        let now = Instant::now();
        assert_eq!(batcher(8, 0, &[1], now).next(now), Next::Batch(vec![0]));
    }

    #[test]
    fn takes_in_order_and_no_more_than_fits() {
        let now = Instant::now();
        let mut batcher = batcher(4, 0, &[1, 2, 2, 1, 9], now);
        assert_eq!(batcher.next(now), Next::Batch(vec![0, 1]));
        assert_eq!(batcher.next(now), Next::Batch(vec![2, 3]));
        assert_eq!(batcher.next(now), Next::Batch(vec![4]), "larger than a batch: alone");
        assert_eq!(batcher.next(now), Next::Empty);
    }

    #[test]
    fn waits_for_company_until_full_or_due() {
        let now = Instant::now();
        let due = now + Duration::from_millis(5);
        let mut waiting = batcher(2, 5, &[1], now);
        assert_eq!(waiting.next(now), Next::NotBefore(due));
        assert_eq!(waiting.next(due), Next::Batch(vec![0]));
        assert_eq!(batcher(2, 5, &[1, 1], now).next(now), Next::Batch(vec![0, 1]));
    }

    #[test]
    fn the_dead_leave_and_the_order_of_the_living_stays() {
        let now = Instant::now();
        let mut batcher = batcher(8, 0, &[1; 5], now);
        assert_eq!(batcher.take_dead(|item| item % 2 == 1), [0, 2, 4]);
        assert_eq!(batcher.remove(3), Some(3));
        assert_eq!(batcher.remove(3), None);
        assert_eq!(batcher.next(now), Next::Batch(vec![1]));
    }
}
