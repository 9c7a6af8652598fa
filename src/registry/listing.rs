//! What is listed of a table, for people and tools.
//!
//! An entry is made once, by the writer, and shared by every list and event that names it.

use std::{cmp::Ordering, sync::Arc};

use super::HeadTable;
use crate::{
    base::BranchPoint,
    head::{Class, Head},
    ids::{Digest, TaskName, Version},
};

/// What is listed under a task's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Listing {
    /// The task's folder, or that of all heads, listed while it cannot be read.
    Folder,
    /// One head file.
    Head(Version),
}

/// Why a head file, or a folder, does not serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub reason: String,
    /// `None` if the file could not be read whole.
    pub digest: Option<Digest>,
    pub size_bytes: u64,
    pub since_unix_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HeadState {
    Serving,
    Rejected,
    /// It served until it was replaced or withdrawn.
    Retired,
}

/// A head as it is listed for people and tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadEntry {
    /// `None` for the folder of all heads.
    pub task: Option<TaskName>,
    pub listing: Listing,
    pub digest: Option<Digest>,
    pub state: HeadState,
    pub reason: String,
    pub classes: Box<[Class]>,
    /// Where it leaves the shared trunk; `None` for linear heads and rejected files.
    pub branch: Option<BranchPoint>,
    pub size_bytes: u64,
    pub since_unix_ms: i64,
}

/// The task, or `None` for the folder of all heads, and what of it is listed.
pub type EntryKey = (Option<TaskName>, Listing);

#[derive(Debug, Clone)]
pub struct HeadEvent {
    pub entry: Arc<HeadEntry>,
    pub generation: u64,
}

impl HeadTable {
    /// Lists the heads that serve and the rejected files, sorted by task and version.
    pub fn entries(&self, only: Option<&TaskName>) -> Vec<Arc<HeadEntry>> {
        let is_listed = |entry: &&Arc<HeadEntry>| only.is_none() || only == entry.task.as_ref();
        let mut entries: Vec<_> = self.listed().filter(is_listed).cloned().collect();
        entries.sort_unstable_by(|one, other| one.order(other));
        entries
    }

    /// Lists at most `most` entries, those that come after this task and version.
    pub fn entries_after(&self, after: Option<&EntryKey>, most: usize) -> Vec<Arc<HeadEntry>> {
        let comes_after = |entry: &&Arc<HeadEntry>| {
            after.is_none_or(|(task, listing)| (&entry.task, entry.listing) > (task, *listing))
        };
        let mut entries: Vec<_> = self.listed().filter(comes_after).collect();
        if entries.len() > most {
            entries.select_nth_unstable_by(most, |one, other| one.order(other));
            entries.truncate(most);
        }
        entries.sort_unstable_by(|one, other| one.order(other));
        entries.into_iter().cloned().collect()
    }

    /// In no particular order.
    fn listed(&self) -> impl Iterator<Item = &Arc<HeadEntry>> {
        let serving = self.serving.values().map(|serving| &serving.entry);
        serving.chain(self.rejected.values().map(|rejected| &rejected.entry))
    }
}

impl HeadEntry {
    fn order(&self, other: &Self) -> Ordering {
        (&self.task, self.listing).cmp(&(&other.task, other.listing))
    }

    pub(super) fn of_head(head: &Head, state: HeadState, since_unix_ms: i64) -> Self {
        Self {
            task: Some(head.task.clone()),
            listing: Listing::Head(head.version),
            digest: Some(head.digest),
            state,
            reason: String::new(),
            classes: head.classes.clone(),
            branch: head.branch.as_ref().map(|loaded| loaded.branch),
            size_bytes: head.size_bytes,
            since_unix_ms,
        }
    }

    pub(super) fn of_rejection(
        task: Option<&TaskName>,
        listing: Listing,
        rejection: &Rejection,
    ) -> Self {
        Self {
            task: task.cloned(),
            listing,
            digest: rejection.digest,
            state: HeadState::Rejected,
            reason: rejection.reason.clone(),
            classes: Box::default(),
            branch: None,
            size_bytes: rejection.size_bytes,
            since_unix_ms: rejection.since_unix_ms,
        }
    }
}
