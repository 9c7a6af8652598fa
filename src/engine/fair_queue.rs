//! Who is next: one line a task. Pure.
//!
//! Start-time Fair Queueing (Goyal, Vin and Cheng 1996) with savings. Each line has a tag: the
//! images that its task has been given. Lines whose tag is not ahead of the virtual time are in
//! turn, first come, first served; the others wait until nobody is in turn, then the virtual time
//! goes on to the smallest tag. A line that comes back from being empty is brought forward to
//! [`MAX_CREDIT`] images before the virtual time.
//!
//! So tasks that ask for no more than their share hardly notice one that asks for ten times as
//! much, tasks that all have much waiting get one image each in turn, and what a task can save up
//! by being quiet is bounded.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::ids::TaskName;

/// Images that a task which was quiet may have before one that had more than its share. With 16 the
/// 99th percentile of the others' times does not rise by more than a tenth when one of 2 or 10
/// tasks sends ten times as much, at loads of 0.3 to 0.9 before (`loud_neighbour` in the tests).
pub const MAX_CREDIT: usize = 16;

/// Items of several tasks, each of some images. The order within a task is that of their coming.
#[derive(Debug)]
pub struct FairQueue<T> {
    flows: HashMap<TaskName, Flow<T>>,
    /// Lines in which something waits and whose tag is not ahead of the virtual time, by the number
    /// of their first item.
    in_turn: BTreeMap<u64, TaskName>,
    /// The other lines in which something waits, by their tag and the number of their first item.
    ahead: BTreeMap<(u64, u64), TaskName>,
    virtual_time: u64,
    images: usize,
}

#[derive(Debug)]
struct Flow<T> {
    waiting: VecDeque<Waiting<T>>,
    tag: u64,
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
        let (in_turn, ahead) = (BTreeMap::new(), BTreeMap::new());
        Self { flows: HashMap::new(), in_turn, ahead, virtual_time: 0, images: 0 }
    }
}

impl<T> FairQueue<T> {
    /// Images of all items together.
    pub fn images(&self) -> usize {
        self.images
    }

    pub fn push(&mut self, task: &TaskName, waiting: Waiting<T>) {
        let earliest = self.virtual_time.saturating_sub(MAX_CREDIT as u64);
        let new = || Flow { waiting: VecDeque::new(), tag: earliest };
        let flow = self.flows.entry(task.clone()).or_insert_with(new);
        if flow.waiting.is_empty() {
            flow.tag = flow.tag.max(earliest);
        }
        self.images += waiting.images;
        flow.waiting.push_back(waiting);
        if flow.waiting.len() == 1 {
            self.schedule(task);
        }
    }

    /// Who is next.
    pub fn first(&mut self) -> Option<&Waiting<T>> {
        let task = self.next_flow()?;
        self.flows.get(&task)?.waiting.front()
    }

    /// Takes out who is next and charges it to its task.
    pub fn pop(&mut self) -> Option<Waiting<T>> {
        let task = self.next_flow()?;
        self.take(&task, 0, |images| images as u64)
    }

    /// Takes out who is next and charges nothing: it is not worth any work.
    pub fn drop_next(&mut self) -> Option<Waiting<T>> {
        let task = self.next_flow()?;
        self.take(&task, 0, |_| 0)
    }

    /// Takes an item out again, if it is still waiting.
    pub fn remove(&mut self, task: &TaskName, id: u64) -> Option<Waiting<T>> {
        let position = self.flows.get(task)?.waiting.iter().position(|waiting| waiting.id == id)?;
        self.take(task, position, |_| 0)
    }

    pub fn take_all(&mut self) -> impl Iterator<Item = Waiting<T>> {
        std::mem::take(self).flows.into_values().flat_map(|flow| flow.waiting)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Waiting<T>> {
        self.flows.values().flat_map(|flow| &flow.waiting)
    }

    fn next_flow(&mut self) -> Option<TaskName> {
        if self.in_turn.is_empty() {
            let (&(smallest, _), _) = self.ahead.first_key_value()?;
            self.virtual_time = smallest;
            let behind = self.ahead.split_off(&(smallest + 1, 0));
            let now_in_turn = std::mem::replace(&mut self.ahead, behind);
            self.in_turn.extend(now_in_turn.into_iter().map(|((_, first), task)| (first, task)));
            self.flows.retain(|_, flow| !flow.is_forgotten(smallest));
        }
        self.in_turn.first_key_value().map(|(_, task)| task.clone())
    }

    fn take(
        &mut self,
        task: &TaskName,
        position: usize,
        charge: impl FnOnce(usize) -> u64,
    ) -> Option<Waiting<T>> {
        let flow = self.flows.get_mut(task)?;
        let first = flow.waiting.front()?.id;
        if self.in_turn.remove(&first).is_none() {
            self.ahead.remove(&(flow.tag, first));
        }
        let taken = flow.waiting.remove(position)?;
        flow.tag += charge(taken.images);
        self.images -= taken.images;
        self.schedule(task);
        Some(taken)
    }

    /// Puts a line that is in neither order where it belongs.
    fn schedule(&mut self, task: &TaskName) {
        let Some(flow) = self.flows.get(task) else { return };
        if let Some(first) = flow.waiting.front() {
            if flow.tag <= self.virtual_time {
                self.in_turn.insert(first.id, task.clone());
            } else {
                self.ahead.insert((flow.tag, first.id), task.clone());
            }
        } else if flow.is_forgotten(self.virtual_time) {
            self.flows.remove(task);
        }
    }
}

impl<T> Flow<T> {
    /// Whether nothing waits in it and it would be brought forward if something came.
    fn is_forgotten(&self, virtual_time: u64) -> bool {
        self.waiting.is_empty() && self.tag + MAX_CREDIT as u64 <= virtual_time
    }
}

#[cfg(test)]
mod tests;
