//! Which head serves which task: one table behind one pointer, with one writer.

mod names;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use arc_swap::ArcSwap;
use tokio::sync::broadcast;

use crate::{
    base::BranchPoint,
    head::{Class, Head},
    ids::{Digest, TaskName, Version},
};
use names::NameIndex;

/// Events buffered for slow watchers; one that falls further behind is sent the whole state again.
const EVENTS_KEPT: usize = 4096;

/// A snapshot of all heads.
#[derive(Debug, Default, Clone)]
pub struct HeadTable {
    /// Counts the updates: of two tables, the higher generation is the newer one.
    pub generation: u64,
    serving: HashMap<TaskName, Serving>,
    rejected: BTreeMap<(TaskName, Listing), Rejection>,
    /// Of the tasks that serve; made when first asked for, shared by tables of the same tasks.
    names: Arc<OnceLock<NameIndex>>,
}

#[derive(Debug, Clone)]
struct Serving {
    head: Arc<Head>,
    since_unix_ms: i64,
}

/// What is listed under a task's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Listing {
    /// The task's folder, listed while it cannot be read.
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
    pub task: TaskName,
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

#[derive(Debug, Clone)]
pub struct HeadEvent {
    pub entry: HeadEntry,
    pub generation: u64,
}

/// One change to the table.
#[derive(Debug)]
pub enum Change {
    /// The head serves its task from now on.
    Install(Head),
    /// The file is listed with the reason; the head that serves keeps serving.
    Reject { task: TaskName, listing: Listing, rejection: Rejection },
    /// The rejected file is gone or valid now and is no longer listed.
    ClearRejection { task: TaskName, listing: Listing },
    /// The task has no head from now on.
    Withdraw { task: TaskName },
}

/// The heads that serve.
///
/// Guarantees:
/// 1. A table that a reader holds never changes: the labels, thresholds and weights behind one
///    answer belong to one version.
/// 2. Readers never wait, neither for the writer nor for each other.
/// 3. A task serves without a gap until it is withdrawn: a head is replaced by swapping one
///    pointer, never removed first.
/// 4. Heads are never evicted: only [`Change::Withdraw`] removes a task.
/// 5. A replaced head is handed back to the writer. A request frees its memory only if it outlives
///    the writer's reference.
/// 6. A watcher sees the state at one generation, then every later change once and in order. A
///    watcher that falls behind is told so.
#[derive(Debug)]
pub struct Registry {
    table: ArcSwap<HeadTable>,
    writing: Mutex<()>,
    events: broadcast::Sender<HeadEvent>,
}

impl Default for Registry {
    fn default() -> Self {
        let table = ArcSwap::from_pointee(HeadTable::default());
        Self { table, writing: Mutex::default(), events: broadcast::channel(EVENTS_KEPT).0 }
    }
}

impl Registry {
    /// Returns the current table.
    pub fn snapshot(&self) -> Arc<HeadTable> {
        self.table.load_full()
    }

    /// Returns the current table and a stream of every later change.
    pub fn watch(&self) -> (Arc<HeadTable>, broadcast::Receiver<HeadEvent>) {
        let _no_change_in_between = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        (self.snapshot(), self.events.subscribe())
    }

    /// Makes the changes visible together and returns the heads that no longer serve.
    pub fn apply(&self, changes: Vec<Change>, now_unix_ms: i64) -> Vec<Arc<Head>> {
        if changes.is_empty() {
            return Vec::new();
        }
        let _one_writer = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = HeadTable::clone(&self.table.load());
        table.generation += 1;
        let (mut retired, mut entries) = (Vec::new(), Vec::new());
        for change in changes {
            let replaced = table.apply(change, now_unix_ms, &mut entries);
            if let Some(old) = replaced {
                entries.push(HeadEntry::of_head(&old, HeadState::Retired, now_unix_ms));
                retired.push(old);
            }
        }
        let generation = table.generation;
        self.table.store(Arc::new(table));
        for entry in entries {
            // Having no watcher is not an error.
            let _watchers = self.events.send(HeadEvent { entry, generation });
        }
        retired
    }
}

impl HeadTable {
    pub fn get(&self, task: &TaskName) -> Option<&Arc<Head>> {
        self.serving.get(task).map(|serving| &serving.head)
    }

    /// Iterates over the heads that serve, in no particular order.
    pub fn heads(&self) -> impl ExactSizeIterator<Item = &Arc<Head>> {
        self.serving.values().map(|serving| &serving.head)
    }

    pub fn rejection(&self, task: &TaskName, listing: Listing) -> Option<&Rejection> {
        self.rejected.get(&(task.clone(), listing))
    }

    /// Returns at most `most` tasks with names like this, the nearest first.
    ///
    /// The first call after the tasks have changed indexes their names: milliseconds for 10,000.
    pub fn nearest(&self, task: &TaskName, most: usize) -> Vec<TaskName> {
        let index = || NameIndex::of(self.serving.keys());
        self.names.get_or_init(index).nearest(task, most)
    }

    /// Lists the heads that serve and the rejected files, sorted by task and version.
    pub fn entries(&self, only: Option<&TaskName>) -> Vec<HeadEntry> {
        let is_listed = |task: &TaskName| only.is_none_or(|only| only == task);
        let serving = self.serving.values().filter(|serving| is_listed(&serving.head.task));
        let serving =
            serving.map(|s| HeadEntry::of_head(&s.head, HeadState::Serving, s.since_unix_ms));
        let rejected = self.rejected.iter().filter(|((task, _), _)| is_listed(task));
        let rejected = rejected
            .map(|((task, listing), rejection)| HeadEntry::of_rejection(task, *listing, rejection));
        let mut entries: Vec<HeadEntry> = serving.chain(rejected).collect();
        entries.sort_by(|a, b| (&a.task, a.listing).cmp(&(&b.task, b.listing)));
        entries
    }

    /// Applies one change, appends its events to `entries`, and returns the head that it retires.
    fn apply(
        &mut self,
        change: Change,
        now: i64,
        entries: &mut Vec<HeadEntry>,
    ) -> Option<Arc<Head>> {
        match change {
            Change::Install(head) => {
                let head = Arc::new(head);
                entries.push(HeadEntry::of_head(&head, HeadState::Serving, now));
                self.rejected.remove(&(head.task.clone(), Listing::Head(head.version)));
                let serving = Serving { head: head.clone(), since_unix_ms: now };
                let replaced = self.serving.insert(head.task.clone(), serving);
                if replaced.is_none() {
                    self.names = Arc::default();
                }
                replaced.map(|old| old.head)
            }
            Change::Reject { task, listing, rejection } => {
                entries.push(HeadEntry::of_rejection(&task, listing, &rejection));
                self.rejected.insert((task, listing), rejection);
                None
            }
            Change::ClearRejection { task, listing } => {
                self.rejected.remove(&(task, listing));
                None
            }
            Change::Withdraw { task } => {
                self.rejected.retain(|(rejected, _), _| *rejected != task);
                self.names = Arc::default();
                self.serving.remove(&task).map(|old| old.head)
            }
        }
    }
}

impl HeadEntry {
    fn of_head(head: &Head, state: HeadState, since_unix_ms: i64) -> Self {
        Self {
            task: head.task.clone(),
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

    fn of_rejection(task: &TaskName, listing: Listing, rejection: &Rejection) -> Self {
        Self {
            task: task.clone(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::FeatureSet,
        head::{DecisionRule, Linear},
        image::Preprocess,
    };

    fn head(task: &str, version: Version) -> Head {
        Head {
            task: task.parse().unwrap(),
            version,
            digest: Digest::of(&version.to_le_bytes()),
            classes: [Class { label: "ok".into(), code: 1, good: true }].into(),
            features: FeatureSet::Gap,
            preprocess: Preprocess::default(),
            decision: DecisionRule::uniform(0.5, 1),
            linear: Linear::new(vec![0.0; 4], vec![0.0], 4).unwrap(),
            branch: None,
            arithmetic: "exact".into(),
            size_bytes: 1,
            lazy_counters: Default::default(),
        }
    }

    #[test]
    fn snapshot_keeps_its_head_while_another_is_installed() {
        let registry = Registry::default();
        let task = "a".parse().unwrap();
        registry.apply(vec![Change::Install(head("a", 1))], 0);
        let before = registry.snapshot();
        let retired = registry.apply(vec![Change::Install(head("a", 2))], 0);
        assert_eq!(before.get(&task).unwrap().version, 1);
        assert_eq!(registry.snapshot().get(&task).unwrap().version, 2);
        assert_eq!(retired[0].version, 1);
    }

    #[test]
    fn rejected_version_is_listed_beside_the_serving_one() {
        let registry = Registry::default();
        registry.apply(vec![Change::Install(head("a", 1))], 0);
        let rejection = Rejection {
            reason: "truncated".to_owned(),
            digest: None,
            size_bytes: 3,
            since_unix_ms: 5,
        };
        registry.apply(
            vec![Change::Reject {
                task: "a".parse().unwrap(),
                listing: Listing::Head(2),
                rejection,
            }],
            5,
        );
        let states = |registry: &Registry| {
            registry
                .snapshot()
                .entries(None)
                .iter()
                .map(|e| (e.listing, e.state))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            states(&registry),
            [(Listing::Head(1), HeadState::Serving), (Listing::Head(2), HeadState::Rejected)]
        );
        registry.apply(vec![Change::Install(head("a", 2))], 6);
        assert_eq!(states(&registry), [(Listing::Head(2), HeadState::Serving)]);
    }

    #[test]
    fn nearest_names_follow_installs_and_withdrawals() {
        let registry = Registry::default();
        let near = |registry: &Registry| registry.snapshot().nearest(&"ab".parse().unwrap(), 3);
        let names = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<_>>();
        registry.apply(vec![Change::Install(head("abc", 1))], 0);
        assert_eq!(near(&registry), names(&["abc"]));
        let before = registry.snapshot();
        registry.apply(vec![Change::Install(head("abc", 2))], 0);
        assert!(Arc::ptr_eq(&before.names, &registry.snapshot().names), "the names are the same");
        registry.apply(vec![Change::Install(head("a", 1))], 0);
        assert_eq!(near(&registry), names(&["a", "abc"]));
        registry.apply(vec![Change::Withdraw { task: "abc".parse().unwrap() }], 0);
        assert_eq!(near(&registry), names(&["a"]));
    }

    #[test]
    fn watcher_sees_each_change_once_after_its_snapshot() {
        let registry = Registry::default();
        registry.apply(vec![Change::Install(head("a", 1))], 0);
        let (state, mut events) = registry.watch();
        registry.apply(vec![Change::Install(head("a", 2))], 0);
        registry.apply(vec![Change::Withdraw { task: "a".parse().unwrap() }], 0);
        let mut seen = Vec::new();
        while let Ok(event) = events.try_recv() {
            assert!(event.generation > state.generation);
            seen.push((event.entry.listing, event.entry.state));
        }
        let head = Listing::Head;
        let expected = [
            (head(2), HeadState::Serving),
            (head(1), HeadState::Retired),
            (head(2), HeadState::Retired),
        ];
        assert_eq!(seen, expected);
        assert_eq!(registry.snapshot().heads().len(), 0);
    }
}
