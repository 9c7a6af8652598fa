//! Admission control: bounds the accepted images and bytes, shares them between tasks, and refuses
//! requests that would miss their deadline.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Notify, futures::Notified};

use super::{BatchTimes, EngineError, error::Unit, fair_queue::MAX_CREDIT};
use crate::{ids::TaskName, metrics::Metrics};

/// Forward passes that may fail in a row before the device counts as lost. It is tried again by the
/// requests that are still queued, and counts as found with the first success.
const FAILURES_UNTIL_LOST: u32 = 3;

/// A task may hold so many times what is free (dynamic thresholds, Choudhury and Hahne 1998). Alone
/// it gets 8 of 9 places; the more is taken by others the less it may have, and there is always
/// something left for a quiet task.
const SHARE_OF_FREE: usize = 8;

#[derive(Debug)]
pub(super) struct Admission {
    max_images: usize,
    max_bytes: usize,
    usage: Mutex<Usage>,
    /// Told whenever the last permit ends.
    emptied: Notify,
    /// Told whenever room is given back.
    freed: Notify,
    failures_in_a_row: AtomicU32,
    /// A trial pass of a lost device waits or runs.
    is_tried: AtomicBool,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Usage {
    all: Held,
    /// Permits that have not ended: those of requests without an answer.
    permits: usize,
    by_task: HashMap<TaskName, Held>,
    passes_running: usize,
    /// When the last of the forward passes that are running ends, by what is known of such passes.
    device_busy_until: Option<Instant>,
    closed: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Held {
    images: usize,
    /// Of these, those that no forward pass has been begun for.
    waiting: usize,
    bytes: usize,
}

/// A request for room in the queue.
#[derive(Debug)]
pub(super) struct ReserveRequest<'a> {
    pub(super) task: &'a TaskName,
    pub(super) images: usize,
    pub(super) bytes: usize,
    pub(super) deadline: Option<Instant>,
    /// It was sent before the server began to drain.
    pub(super) sent_before: bool,
}

/// A share of the bounds, given back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    admission: Arc<Admission>,
    task: TaskName,
    images: usize,
    bytes: usize,
    waits: bool,
}

impl Admission {
    pub(super) fn new(max_images: usize, max_bytes: usize, metrics: Arc<Metrics>) -> Self {
        let (usage, emptied, freed) = (Mutex::default(), Notify::new(), Notify::new());
        Self {
            max_images,
            max_bytes,
            usage,
            emptied,
            freed,
            failures_in_a_row: AtomicU32::new(0),
            is_tried: AtomicBool::new(false),
            metrics,
        }
    }

    pub(super) fn try_reserve(
        self: &Arc<Self>,
        request: &ReserveRequest<'_>,
        times: &BatchTimes,
        now: Instant,
    ) -> Result<Permit, EngineError> {
        let &ReserveRequest { task, images, bytes, deadline, sent_before } = request;
        for (needed, limit, unit) in
            [(images, self.max_images, Unit::Images), (bytes, self.max_bytes, Unit::Bytes)]
        {
            if needed > limit {
                return Err(EngineError::NeverFits { needed, limit, unit });
            }
        }
        let mut usage = self.usage();
        if usage.closed && !sent_before {
            return Err(EngineError::Draining);
        }
        if self.device_has_ended() {
            return Err(EngineError::DeviceLost);
        }
        // An idle server lets a request through to find out whether the device is back.
        if !self.device_works() && usage.all.images > 0 {
            return Err(EngineError::DeviceLost);
        }
        let held = usage.by_task.get(task).copied().unwrap_or_default();
        check_room(task, Unit::Images, images, held.images, usage.all.images, self.max_images)?;
        check_room(task, Unit::Bytes, bytes, held.bytes, usage.all.bytes, self.max_bytes)?;
        if let Some(deadline) = deadline {
            usage.check_deadline(task, images, deadline, times, now)?;
        }
        usage.change(task, |held| {
            held.images += images;
            held.waiting += images;
            held.bytes += bytes;
        });
        usage.permits += 1;
        self.show(&usage);
        Ok(Permit { admission: self.clone(), task: task.clone(), images, bytes, waits: true })
    }

    pub(super) fn stop_accepting(&self) {
        self.usage().closed = true;
        self.freed.notify_waiters();
    }

    /// Completes when room is given back, or none will be.
    pub(super) fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }

    pub(super) async fn drained(&self) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            // From here on a wake-up is not missed.
            emptied.as_mut().enable();
            if self.usage().permits == 0 {
                return;
            }
            emptied.await;
        }
    }

    pub(super) fn device_works(&self) -> bool {
        self.failures_in_a_row.load(Ordering::Relaxed) < FAILURES_UNTIL_LOST
    }

    /// One that takes so long once those before it have ended.
    pub(super) fn forward_pass_begins(&self, takes: Duration, now: Instant) {
        let mut usage = self.usage();
        usage.passes_running += 1;
        usage.device_busy_until =
            Some(usage.device_busy_until.map_or(now, |end| end.max(now)) + takes);
    }

    pub(super) fn forward_pass_ended(&self, well: bool) {
        let mut usage = self.usage();
        usage.passes_running = usage.passes_running.saturating_sub(1);
        if usage.passes_running == 0 {
            usage.device_busy_until = None;
        }
        drop(usage);
        if well {
            self.failures_in_a_row.store(0, Ordering::Relaxed);
        } else {
            let failures = self.failures_in_a_row.load(Ordering::Relaxed);
            // The maximum stands for a thread that ended.
            let failures = failures.saturating_add(1).min(u32::MAX - 1);
            self.failures_in_a_row.store(failures, Ordering::Relaxed);
        }
    }

    /// For good: there is no thread any more that could find the device again.
    pub(super) fn device_is_gone(&self) {
        self.failures_in_a_row.store(u32::MAX, Ordering::Relaxed);
    }

    pub(super) fn device_has_ended(&self) -> bool {
        self.failures_in_a_row.load(Ordering::Relaxed) == u32::MAX
    }

    /// Returns whether the caller is to try the device now: one trial at a time.
    pub(super) fn begin_trial(&self) -> bool {
        !self.is_tried.swap(true, Ordering::AcqRel)
    }

    pub(super) fn end_trial(&self, well: bool) {
        if well {
            self.failures_in_a_row.store(0, Ordering::Relaxed);
        }
        self.is_tried.store(false, Ordering::Release);
    }

    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, usage: &Usage) {
        self.metrics.queue_images.set(usage.all.images as f64);
        self.metrics.queue_bytes.set(usage.all.bytes as f64);
    }
}

/// That there is room, and that it is not what is kept for other tasks.
fn check_room(
    task: &TaskName,
    unit: Unit,
    needed: usize,
    held: usize,
    in_use: usize,
    limit: usize,
) -> Result<(), EngineError> {
    let free = limit - in_use;
    if needed > free {
        return Err(EngineError::QueueFull { unit, needed, in_use, limit });
    }
    let share = free.saturating_mul(SHARE_OF_FREE);
    if held + needed > share {
        return Err(EngineError::TaskShareFull {
            task: task.clone(),
            unit,
            needed,
            held,
            share,
            free,
            limit,
        });
    }
    Ok(())
}

impl Usage {
    fn change(&mut self, task: &TaskName, change: impl Fn(&mut Held)) {
        change(&mut self.all);
        let of_task = self.by_task.entry(task.clone()).or_default();
        change(of_task);
        if of_task.images == 0 {
            self.by_task.remove(task);
        }
    }

    /// That the answer can be there in time if nobody before it gives up. Its own pass counts with
    /// the least that it takes, what waits before it with a conservative time: a
    /// queue as long as the deadline would compute every image just too late, and refuse at the
    /// deadline what it could have refused on arrival. Before the request goes what the task takes
    /// turns with: of a task that lives on its savings, as most do, one image for each of this
    /// task's; of a louder one no more than this task has waiting beyond its own savings, so that
    /// no loud task makes a quiet one's requests hopeless.
    fn check_deadline(
        &self,
        task: &TaskName,
        images: usize,
        deadline: Instant,
        times: &BatchTimes,
        now: Instant,
    ) -> Result<(), EngineError> {
        let left = deadline.saturating_duration_since(now);
        if left.is_zero() {
            return Err(EngineError::DeadlinePassed);
        }
        let own = self.by_task.get(task).map_or(0, |held| held.waiting);
        let turns = own.saturating_sub(MAX_CREDIT + 1);
        let others = self.by_task.iter().filter(|(other, _)| *other != task);
        let before =
            |waiting: usize| waiting.min(if waiting <= MAX_CREDIT { own + images } else { turns });
        let ahead = own + others.map(|(_, held)| before(held.waiting)).sum::<usize>();
        let busy =
            self.device_busy_until.map_or(Duration::ZERO, |end| end.saturating_duration_since(now));
        let (own_pass, wait) = (times.lower_bound(images, now), times.conservative(ahead, now));
        let needed = busy.saturating_add(wait).saturating_add(own_pass);
        if needed > left {
            return Err(EngineError::DeadlineTooNear { needed, left, ahead });
        }
        Ok(())
    }
}

impl Permit {
    pub(super) fn images(&self) -> usize {
        self.images
    }

    pub(super) fn task(&self) -> &TaskName {
        &self.task
    }

    /// Its images are in the forward pass that is running: nobody has to wait for them after it.
    pub(super) fn waits_no_more(&mut self) {
        if std::mem::take(&mut self.waits) {
            let images = self.images;
            self.admission.usage().change(&self.task, |held| held.waiting -= images);
        }
    }

    /// Gives the room back before the permit ends; draining still waits for its end.
    pub(super) fn give_room_back(&mut self) {
        let (images, bytes) = (std::mem::take(&mut self.images), std::mem::take(&mut self.bytes));
        if images == 0 {
            return;
        }
        let waiting = if self.waits { images } else { 0 };
        let mut usage = self.admission.usage();
        usage.change(&self.task, |held| {
            held.images -= images;
            held.waiting -= waiting;
            held.bytes -= bytes;
        });
        self.admission.show(&usage);
        drop(usage);
        self.admission.freed.notify_waiters();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.give_room_back();
        let mut usage = self.admission.usage();
        usage.permits -= 1;
        if usage.permits == 0 {
            self.admission.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests;
