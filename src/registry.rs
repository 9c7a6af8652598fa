//! Which head answers for which task: one table behind one pointer, one writer.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use tokio::sync::broadcast;

use crate::{
    base::BranchPoint,
    head::{Class, Head},
    ids::{Digest, TaskName, Version},
};

/// Events kept for a watcher that is slow; one that falls further behind is sent the whole state again.
const EVENTS_KEPT: usize = 4096;

/// All heads at one moment.
#[derive(Debug, Default, Clone)]
pub struct HeadTable {
    /// Counts the changes: of two tables the one with the higher generation is the newer.
    pub generation: u64,
    serving: HashMap<TaskName, Serving>,
    rejected: BTreeMap<(TaskName, Listing), Rejection>,
}

#[derive(Debug, Clone)]
struct Serving {
    head: Arc<Head>,
    since_unix_ms: i64,
}

/// What is listed under a task's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Listing {
    /// The task's folder as a whole, when it cannot be read.
    Folder,
    /// One head file.
    Head(Version),
}

/// A head file, or a folder, that does not serve, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub reason: String,
    /// Absent if the file could not be read whole.
    pub digest: Option<Digest>,
    pub size_bytes: u64,
    pub since_unix_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HeadState {
    Serving,
    Rejected,
    /// It served, and another took its place or it was withdrawn.
    Retired,
}

/// A head as people and tools see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadEntry {
    pub task: TaskName,
    pub listing: Listing,
    pub digest: Option<Digest>,
    pub state: HeadState,
    pub reason: String,
    pub classes: Box<[Class]>,
    /// Where it leaves the shared trunk; `None` for a linear head and for what does not serve.
    pub branch: Option<BranchPoint>,
    pub size_bytes: u64,
    pub since_unix_ms: i64,
}

#[derive(Debug, Clone)]
pub struct HeadEvent {
    pub entry: HeadEntry,
    pub generation: u64,
}

/// One step of a new table.
#[derive(Debug)]
pub enum Change {
    /// The head answers for its task from now on.
    Install(Head),
    /// The file is listed with the reason; what serves goes on serving.
    Reject { task: TaskName, listing: Listing, rejection: Rejection },
    /// A rejected file is gone or valid now: it is no longer listed.
    ClearRejection { task: TaskName, listing: Listing },
    /// The task has no head from now on.
    Withdraw { task: TaskName },
}

/// The heads that are served.
///
/// Guarantees:
/// 1. A table that a reader holds never changes: labels, thresholds and weights of one answer are of one version.
/// 2. Readers never wait, neither for the writer nor for each other.
/// 3. A task that is served is served at every moment until it is withdrawn: a head is replaced by one pointer, never
///    taken out first.
/// 4. Nothing goes by itself: only [`Change::Withdraw`] removes a task.
/// 5. A head that was replaced is handed to the writer, so its memory is not freed on a request's path unless a
///    request outlives the writer's patience.
/// 6. A watcher sees the state at one generation, then every later change once, in order; one that falls behind is
///    told so.
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
    /// All heads as they are now.
    pub fn snapshot(&self) -> Arc<HeadTable> {
        self.table.load_full()
    }

    /// The state, and every change after it.
    pub fn watch(&self) -> (Arc<HeadTable>, broadcast::Receiver<HeadEvent>) {
        let _no_change_between = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        (self.snapshot(), self.events.subscribe())
    }

    /// Makes the changes visible together and gives back the heads that no longer serve.
    pub fn apply(&self, changes: Vec<Change>, now_unix_ms: i64) -> Vec<Arc<Head>> {
        if changes.is_empty() {
            return Vec::new();
        }
        let _one_writer = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = HeadTable::clone(&self.table.load());
        table.generation += 1;
        let (mut retired, mut entries) = (Vec::new(), Vec::new());
        for change in changes {
            let replaced = table.make(change, now_unix_ms, &mut entries);
            if let Some(old) = replaced {
                entries.push(HeadEntry::of_head(&old, HeadState::Retired, now_unix_ms));
                retired.push(old);
            }
        }
        let generation = table.generation;
        self.table.store(Arc::new(table));
        for entry in entries {
            // Nobody watching is no error.
            let _watchers = self.events.send(HeadEvent { entry, generation });
        }
        retired
    }
}

impl HeadTable {
    pub fn get(&self, task: &TaskName) -> Option<&Arc<Head>> {
        self.serving.get(task).map(|serving| &serving.head)
    }

    /// The heads that answer, in no order.
    pub fn heads(&self) -> impl ExactSizeIterator<Item = &Arc<Head>> {
        self.serving.values().map(|serving| &serving.head)
    }

    pub fn rejection(&self, task: &TaskName, listing: Listing) -> Option<&Rejection> {
        self.rejected.get(&(task.clone(), listing))
    }

    /// The heads that serve and the files that are rejected, by task and version.
    pub fn entries(&self, only: Option<&TaskName>) -> Vec<HeadEntry> {
        let wanted = |task: &TaskName| only.is_none_or(|only| only == task);
        let serving = self.serving.values().filter(|serving| wanted(&serving.head.task));
        let serving =
            serving.map(|s| HeadEntry::of_head(&s.head, HeadState::Serving, s.since_unix_ms));
        let rejected = self.rejected.iter().filter(|((task, _), _)| wanted(task));
        let rejected = rejected
            .map(|((task, listing), rejection)| HeadEntry::of_rejection(task, *listing, rejection));
        let mut entries: Vec<HeadEntry> = serving.chain(rejected).collect();
        entries.sort_by(|a, b| (&a.task, a.listing).cmp(&(&b.task, b.listing)));
        entries
    }

    /// Makes one change, tells of it, and gives back the head that it replaces.
    fn make(
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
                self.serving.insert(head.task.clone(), serving).map(|old| old.head)
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
    fn a_snapshot_keeps_its_head_while_another_is_installed() {
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
    fn a_refused_version_is_listed_beside_the_one_that_serves() {
        let registry = Registry::default();
        registry.apply(vec![Change::Install(head("a", 1))], 0);
        let rejection = Rejection {
            reason: "cut short".to_owned(),
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
    fn a_watcher_sees_each_change_once_after_the_state_it_was_given() {
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
