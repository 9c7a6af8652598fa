//! Which head serves which task: one table behind one pointer, with one writer.

mod listing;
mod names;

pub use listing::{EntryKey, HeadEntry, HeadEvent, HeadState, Listing, Rejection};

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use arc_swap::ArcSwap;
use tokio::sync::broadcast;

use crate::{head::Head, ids::TaskName};
use names::NameIndex;

/// Events buffered for slow watchers; one that falls further behind is sent the whole state again.
const EVENTS_KEPT: usize = 4096;

/// A snapshot of all heads.
#[derive(Debug, Default, Clone)]
pub struct HeadTable {
    /// Counts the updates: of two tables, the higher generation is the newer one.
    pub generation: u64,
    serving: HashMap<TaskName, Serving>,
    /// By task; `None` stands for the folder of all heads.
    rejected: BTreeMap<EntryKey, Rejected>,
    /// Of the tasks that serve; made when first asked for, shared by tables of the same tasks.
    names: Arc<OnceLock<NameIndex>>,
}

#[derive(Debug, Clone)]
struct Serving {
    head: Arc<Head>,
    entry: Arc<HeadEntry>,
}

#[derive(Debug, Clone)]
struct Rejected {
    rejection: Rejection,
    entry: Arc<HeadEntry>,
}

/// One change to the table.
#[derive(Debug)]
pub enum Change {
    /// The head serves its task from now on.
    Install(Head),
    /// The file is listed with the reason; the head that serves keeps serving.
    Reject { task: Option<TaskName>, listing: Listing, rejection: Rejection },
    /// The rejected file is gone or valid now and is no longer listed.
    ClearRejection { task: Option<TaskName>, listing: Listing },
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
                entries.push(Arc::new(HeadEntry::of_head(&old, HeadState::Retired, now_unix_ms)));
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
        self.rejected.get(&(Some(task.clone()), listing)).map(|rejected| &rejected.rejection)
    }

    /// Returns at most `most` tasks with names like this, the nearest first.
    ///
    /// The first call after the tasks have changed indexes their names: milliseconds for 10,000.
    pub fn nearest(&self, task: &TaskName, most: usize) -> Vec<TaskName> {
        let index = || NameIndex::of(self.serving.keys());
        self.names.get_or_init(index).nearest(task, most)
    }

    /// Applies one change, appends its events to `entries`, and returns the head that it retires.
    fn apply(
        &mut self,
        change: Change,
        now: i64,
        entries: &mut Vec<Arc<HeadEntry>>,
    ) -> Option<Arc<Head>> {
        match change {
            Change::Install(head) => {
                let head = Arc::new(head);
                let entry = Arc::new(HeadEntry::of_head(&head, HeadState::Serving, now));
                entries.push(entry.clone());
                self.rejected.remove(&(Some(head.task.clone()), Listing::Head(head.version)));
                let serving = Serving { head: head.clone(), entry };
                let replaced = self.serving.insert(head.task.clone(), serving);
                if replaced.is_none() {
                    self.names = Arc::default();
                }
                replaced.map(|old| old.head)
            }
            Change::Reject { task, listing, rejection } => {
                let entry = Arc::new(HeadEntry::of_rejection(task.as_ref(), listing, &rejection));
                entries.push(entry.clone());
                self.rejected.insert((task, listing), Rejected { rejection, entry });
                None
            }
            Change::ClearRejection { task, listing } => {
                self.rejected.remove(&(task, listing));
                None
            }
            Change::Withdraw { task } => {
                self.rejected.retain(|(rejected, _), _| rejected.as_ref() != Some(&task));
                self.names = Arc::default();
                self.serving.remove(&task).map(|old| old.head)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        base::FeatureSet,
        head::{Class, DecisionRule, Linear},
        ids::{Digest, Version},
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
                task: Some("a".parse().unwrap()),
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
    fn pages_of_any_size_list_every_entry_once_in_order() {
        let registry = Registry::default();
        let names = ["d", "a", "c", "b", "e"];
        registry.apply(names.map(|name| Change::Install(head(name, 2))).into(), 0);
        let rejection = Rejection {
            reason: "truncated".to_owned(),
            digest: None,
            size_bytes: 3,
            since_unix_ms: 5,
        };
        let (task, listing) = (Some("b".parse().unwrap()), Listing::Head(3));
        registry.apply(vec![Change::Reject { task, listing, rejection }], 5);
        let table = registry.snapshot();
        let all = table.entries(None);
        assert_eq!(all.len(), 6);
        for most in 1..8 {
            let (mut paged, mut after) = (Vec::new(), None);
            loop {
                let page = table.entries_after(after.as_ref(), most);
                let Some(last) = page.last() else { break };
                after = Some((last.task.clone(), last.listing));
                assert!(page.len() <= most);
                paged.extend(page);
            }
            assert_eq!(paged, all, "in pages of {most}");
        }
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
