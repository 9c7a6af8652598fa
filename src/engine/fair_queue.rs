//! Who is next: one line a task, served in turn by images. Pure.
//!
//! Start-time Fair Queueing (Goyal, Vin and Cheng 1996). Each line has a start tag: the images that it has been given
//! so far, brought forward to the virtual time when it comes back from being empty. The line with the smallest tag is
//! next. So each of the tasks that wait gets one image a round, a task that was quiet is next at once, and none is
//! passed by more than once a round.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::task::TaskName;

/// Items of several tasks, each of some images. The order within a task is that of their coming.
#[derive(Debug)]
pub struct FairQueue<T> {
    lines: HashMap<TaskName, Line<T>>,
    /// The lines in which something waits, by their start tag and the number of their first item.
    order: BTreeMap<(u64, u64), TaskName>,
    /// The start tag of what was served last.
    virtual_time: u64,
    images: usize,
}

#[derive(Debug)]
struct Line<T> {
    waiting: VecDeque<Waiting<T>>,
    start: u64,
}

/// An item in its line.
#[derive(Debug)]
pub struct Waiting<T> {
    /// Different from all others in the queue.
    pub id: u64,
    /// At least 1.
    pub images: usize,
    pub item: T,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self { lines: HashMap::new(), order: BTreeMap::new(), virtual_time: 0, images: 0 }
    }
}

impl<T> FairQueue<T> {
    /// Images of all items together.
    pub fn images(&self) -> usize {
        self.images
    }

    pub fn push(&mut self, task: &TaskName, waiting: Waiting<T>) {
        let new = || Line { waiting: VecDeque::new(), start: 0 };
        let line = self.lines.entry(task.clone()).or_insert_with(new);
        if line.waiting.is_empty() {
            line.start = line.start.max(self.virtual_time);
            self.order.insert((line.start, waiting.id), task.clone());
        }
        self.images += waiting.images;
        line.waiting.push_back(waiting);
    }

    /// Who is next.
    pub fn first(&self) -> Option<&Waiting<T>> {
        let (_, task) = self.order.first_key_value()?;
        self.lines.get(task)?.waiting.front()
    }

    /// Takes out who is next and charges it to its task.
    pub fn serve_first(&mut self) -> Option<Waiting<T>> {
        let ((start, _), task) = self.order.first_key_value()?;
        let (start, task) = (*start, task.clone());
        let first = self.take(&task, 0, |images| images as u64)?;
        if start > self.virtual_time {
            self.virtual_time = start;
            self.lines.retain(|_, line| !line.is_forgotten(start));
        }
        Some(first)
    }

    /// Takes out who is next and charges nothing: it is not worth any work.
    pub fn dismiss_first(&mut self) -> Option<Waiting<T>> {
        let (_, task) = self.order.first_key_value()?;
        let task = task.clone();
        self.take(&task, 0, |_| 0)
    }

    /// Takes an item out again, if it is still waiting.
    pub fn remove(&mut self, task: &TaskName, id: u64) -> Option<Waiting<T>> {
        let position = self.lines.get(task)?.waiting.iter().position(|waiting| waiting.id == id)?;
        self.take(task, position, |_| 0)
    }

    pub fn take_all(&mut self) -> impl Iterator<Item = Waiting<T>> {
        std::mem::take(self).lines.into_values().flat_map(|line| line.waiting)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Waiting<T>> {
        self.lines.values().flat_map(|line| &line.waiting)
    }

    fn take(
        &mut self,
        task: &TaskName,
        position: usize,
        charge: impl FnOnce(usize) -> u64,
    ) -> Option<Waiting<T>> {
        let line = self.lines.get_mut(task)?;
        self.order.remove(&(line.start, line.waiting.front()?.id));
        let taken = line.waiting.remove(position)?;
        self.images -= taken.images;
        line.start += charge(taken.images);
        if let Some(first) = line.waiting.front() {
            self.order.insert((line.start, first.id), task.clone());
        } else if line.is_forgotten(self.virtual_time) {
            self.lines.remove(task);
        }
        Some(taken)
    }
}

impl<T> Line<T> {
    /// Whether an empty line has nothing left to be charged for: it would start at the virtual time anyway.
    fn is_forgotten(&self, virtual_time: u64) -> bool {
        self.waiting.is_empty() && self.start <= virtual_time
    }
}

#[cfg(test)]
mod tests;
