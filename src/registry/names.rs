//! The names of all tasks that serve, for suggestions in place of an unknown one.

use fst::{Automaton, IntoStreamer as _, Set, Streamer as _};

use crate::ids::TaskName;

/// Characters by which a suggestion may differ: inserted, deleted or replaced.
const MAX_DISTANCE: u8 = 2;
/// Stands for every distance above [`MAX_DISTANCE`].
const FAR: u8 = MAX_DISTANCE + 1;
const BAND: usize = 2 * MAX_DISTANCE as usize + 1;

/// An index of names that finds those near to another without comparing it with each.
#[derive(Debug, Default)]
pub(super) struct NameIndex(Set<Vec<u8>>);

impl NameIndex {
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a TaskName>) -> Self {
        let mut names: Vec<&str> = names.map(TaskName::as_str).collect();
        names.sort_unstable();
        // In order and without duplicates, so it cannot fail.
        Self(Set::from_iter(names).unwrap_or_default())
    }

    /// Returns at most `most` names within two changed characters, the nearest first.
    pub(super) fn nearest(&self, to: &TaskName, most: usize) -> Vec<TaskName> {
        let near_to = NearTo(to.as_str().as_bytes());
        let mut near: Vec<(u8, TaskName)> = Vec::new();
        let mut found = self.0.search_with_state(&near_to).into_stream();
        while let Some((name, row)) = found.next() {
            if let Some(name) = str::from_utf8(name).ok().and_then(|name| name.parse().ok()) {
                near.push((near_to.distance(&row), name));
            }
        }
        near.sort_unstable();
        near.truncate(most);
        near.into_iter().map(|(_, name)| name).collect()
    }
}

/// Matches names whose Levenshtein distance to this one is at most [`MAX_DISTANCE`].
///
/// Its states are computed as they are reached. `fst`'s own automaton computes all of them before,
/// which takes 20 MB and more than it allows itself for a name of 63 different characters.
struct NearTo<'a>(&'a [u8]);

/// A row of the distance matrix, where it can still be near its diagonal.
#[derive(Debug, Clone, Copy)]
struct Row {
    /// Bytes of the candidate that were read.
    read: usize,
    /// The distance of those to the first `read - MAX_DISTANCE + index` bytes of the name.
    distances: [u8; BAND],
}

impl NearTo<'_> {
    /// Returns the distance of the candidate that led to this state.
    fn distance(&self, row: &Row) -> u8 {
        let index = (self.0.len() + usize::from(MAX_DISTANCE)).checked_sub(row.read);
        index.and_then(|index| row.distances.get(index)).copied().unwrap_or(FAR)
    }

    /// Returns the number of the name's bytes that an index of a row stands for.
    fn prefix(&self, read: usize, index: usize) -> Option<usize> {
        let prefix = (read + index).checked_sub(usize::from(MAX_DISTANCE))?;
        (prefix <= self.0.len()).then_some(prefix)
    }
}

impl Automaton for NearTo<'_> {
    type State = Row;

    fn start(&self) -> Row {
        let distance = |index| self.prefix(0, index).map_or(FAR, |prefix| prefix as u8);
        Row { read: 0, distances: std::array::from_fn(distance) }
    }

    fn is_match(&self, row: &Row) -> bool {
        self.distance(row) <= MAX_DISTANCE
    }

    fn can_match(&self, row: &Row) -> bool {
        row.distances.iter().any(|distance| *distance <= MAX_DISTANCE)
    }

    fn accept(&self, row: &Row, byte: u8) -> Row {
        let read = row.read + 1;
        let mut distances = [FAR; BAND];
        for index in 0..BAND {
            let Some(prefix) = self.prefix(read, index) else { continue };
            let replaced = match prefix.checked_sub(1) {
                Some(last) => row.distances[index] + u8::from(self.0[last] != byte),
                None => FAR,
            };
            let inserted = row.distances.get(index + 1).map_or(FAR, |before| before + 1);
            let deleted = index.checked_sub(1).map_or(FAR, |left| distances[left] + 1);
            distances[index] = replaced.min(inserted).min(deleted).min(FAR);
        }
        Row { read, distances }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::ids::MAX_TASK_NAME;

    fn name(text: &str) -> TaskName {
        text.parse().unwrap()
    }

    fn index(names: &[&str]) -> NameIndex {
        let names: Vec<TaskName> = names.iter().map(|text| name(text)).collect();
        NameIndex::of(names.iter())
    }

    #[test]
    fn nearest_names_come_first_and_far_ones_not_at_all() {
        let index = index(&["bracket-left", "bracket-lift", "bracket-right", "cap", "bracket-l"]);
        let near = |text: &str| {
            let found = index.nearest(&name(text), 3);
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(near("bracket-lefft"), ["bracket-left", "bracket-lift"]);
        assert_eq!(near("bracket-lfet"), ["bracket-left", "bracket-lift"]);
        assert_eq!(near("cp"), ["cap"]);
        assert!(near("screw").is_empty());
    }

    #[test]
    fn longest_name_finds_its_neighbours() {
        let long = "a".repeat(MAX_TASK_NAME);
        let (other, far) = ("a".repeat(MAX_TASK_NAME - 2), "a".repeat(MAX_TASK_NAME - 3));
        let found = index(&[&other, &far]).nearest(&name(&long), 3);
        assert_eq!(found, [name(&other)]);
        let mixed = "x1y2z3w4.u5v6-t7s8r9_q0p1o2n3m4l5k6j7i8h9g0f1e2d3c4b5a6z7y8x9w0".to_owned();
        let near = format!("{}k", &mixed[..MAX_TASK_NAME - 1]);
        assert_eq!(index(&[&near]).nearest(&name(&mixed[..MAX_TASK_NAME]), 3), [name(&near)]);
    }

    #[test]
    fn index_finds_what_comparing_with_every_name_finds() {
        let letters = ["a", "b", "c"];
        let mut names = BTreeSet::from([String::new()]);
        for _ in 0..4 {
            let longer = names.iter().flat_map(|n| letters.map(|letter| format!("{n}{letter}")));
            names.extend(longer.collect::<Vec<_>>());
        }
        let names: Vec<&str> = names.iter().map(String::as_str).filter(|n| !n.is_empty()).collect();
        let index = index(&names);
        for asked in ["a", "abc", "abcabc", "ccccccc"] {
            let found = index.nearest(&name(asked), usize::MAX);
            let near = names.iter().filter(|name| strsim::levenshtein(name, asked) <= 2);
            assert_eq!(found.len(), near.count(), "{asked}");
        }
    }
}
