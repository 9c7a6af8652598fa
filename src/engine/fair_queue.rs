//! Who is next: one line a task. Pure.
//!
//! Start-time Fair Queueing (Goyal, Vin and Cheng 1996) with savings. Each line has a tag: the images that its task has
//! been given. Lines whose tag is not ahead of the virtual time are in turn, first come, first served; the others wait
//! until nobody is in turn, then the virtual time goes on to the smallest tag. A line that comes back from being empty
//! is brought forward to [`SAVINGS`] images before the virtual time.
//!
//! So tasks that ask for no more than their share hardly notice one that asks for ten times as much, tasks that all have
//! much waiting get one image each in turn, and what a task can save up by being quiet is bounded.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::ids::TaskName;

/// Images that a task which was quiet may have before one that had more than its share. With 16 the 99th percentile of
/// the others' times does not rise by more than a tenth when one of 2 or 10 tasks sends ten times as much, at loads of
/// 0.3 to 0.9 before (`loud_neighbour` in the tests).
pub const SAVINGS: usize = 16;

/// Items of several tasks, each of some images. The order within a task is that of their coming.
#[derive(Debug)]
pub struct FairQueue<T> {
    lines: HashMap<TaskName, Line<T>>,
    /// Lines in which something waits and whose tag is not ahead of the virtual time, by the number of their first item.
    in_turn: BTreeMap<u64, TaskName>,
    /// The other lines in which something waits, by their tag and the number of their first item.
    ahead: BTreeMap<(u64, u64), TaskName>,
    virtual_time: u64,
    images: usize,
}

#[derive(Debug)]
struct Line<T> {
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
        Self { lines: HashMap::new(), in_turn, ahead, virtual_time: 0, images: 0 }
    }
}

impl<T> FairQueue<T> {
    /// Images of all items together.
    pub fn images(&self) -> usize {
        self.images
    }

    pub fn push(&mut self, task: &TaskName, waiting: Waiting<T>) {
        let earliest = self.virtual_time.saturating_sub(SAVINGS as u64);
        let new = || Line { waiting: VecDeque::new(), tag: earliest };
        let line = self.lines.entry(task.clone()).or_insert_with(new);
        if line.waiting.is_empty() {
            line.tag = line.tag.max(earliest);
        }
        self.images += waiting.images;
        line.waiting.push_back(waiting);
        if line.waiting.len() == 1 {
            self.line_up(task);
        }
    }

    /// Who is next.
    pub fn first(&mut self) -> Option<&Waiting<T>> {
        let task = self.next_line()?;
        self.lines.get(&task)?.waiting.front()
    }

    /// Takes out who is next and charges it to its task.
    pub fn serve_first(&mut self) -> Option<Waiting<T>> {
        let task = self.next_line()?;
        self.take(&task, 0, |images| images as u64)
    }

    /// Takes out who is next and charges nothing: it is not worth any work.
    pub fn dismiss_first(&mut self) -> Option<Waiting<T>> {
        let task = self.next_line()?;
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

    fn next_line(&mut self) -> Option<TaskName> {
        if self.in_turn.is_empty() {
            let (&(smallest, _), _) = self.ahead.first_key_value()?;
            self.virtual_time = smallest;
            let behind = self.ahead.split_off(&(smallest + 1, 0));
            let now_in_turn = std::mem::replace(&mut self.ahead, behind);
            self.in_turn.extend(now_in_turn.into_iter().map(|((_, first), task)| (first, task)));
            self.lines.retain(|_, line| !line.is_forgotten(smallest));
        }
        self.in_turn.first_key_value().map(|(_, task)| task.clone())
    }

    fn take(
        &mut self,
        task: &TaskName,
        position: usize,
        charge: impl FnOnce(usize) -> u64,
    ) -> Option<Waiting<T>> {
        let line = self.lines.get_mut(task)?;
        let first = line.waiting.front()?.id;
        if self.in_turn.remove(&first).is_none() {
            self.ahead.remove(&(line.tag, first));
        }
        let taken = line.waiting.remove(position)?;
        line.tag += charge(taken.images);
        self.images -= taken.images;
        self.line_up(task);
        Some(taken)
    }

    /// Puts a line that is in neither order where it belongs.
    fn line_up(&mut self, task: &TaskName) {
        let Some(line) = self.lines.get(task) else { return };
        if let Some(first) = line.waiting.front() {
            if line.tag <= self.virtual_time {
                self.in_turn.insert(first.id, task.clone());
            } else {
                self.ahead.insert((line.tag, first.id), task.clone());
            }
        } else if line.is_forgotten(self.virtual_time) {
            self.lines.remove(task);
        }
    }
}

impl<T> Line<T> {
    /// Whether nothing waits in it and it would be brought forward if something came.
    fn is_forgotten(&self, virtual_time: u64) -> bool {
        self.waiting.is_empty() && self.tag + SAVINGS as u64 <= virtual_time
    }
}

#[cfg(test)]
mod tests;
