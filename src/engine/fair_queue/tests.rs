use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::*;

fn task(number: usize) -> TaskName {
    format!("task-{number}").parse().unwrap()
}

/// Items are numbered in the order in which they come; each carries its task.
fn queue(items: &[(usize, usize)]) -> FairQueue<usize> {
    let mut queue = FairQueue::default();
    for (id, (number, images)) in items.iter().enumerate() {
        queue.push(&task(*number), Waiting { id: id as u64, images: *images, item: *number });
    }
    queue
}

fn served(queue: &mut FairQueue<usize>) -> Vec<u64> {
    std::iter::from_fn(|| queue.serve_first()).map(|waiting| waiting.id).collect()
}

#[test]
fn one_task_is_served_in_order() {
    assert_eq!(served(&mut queue(&[(1, 1), (1, 3), (1, 1)])), [0, 1, 2]);
}

#[test]
fn tasks_take_turns_however_many_images_one_has_waiting() {
    let items = [(1, 1), (1, 1), (1, 1), (1, 1), (2, 1), (2, 1), (3, 1)];
    assert_eq!(served(&mut queue(&items)), [0, 4, 6, 1, 5, 2, 3]);
}

#[test]
fn turns_are_counted_in_images() {
    let items = [(1, 3), (1, 3), (2, 1), (2, 1), (2, 1), (2, 1), (2, 1), (2, 1)];
    assert_eq!(served(&mut queue(&items)), [0, 2, 3, 4, 1, 5, 6, 7]);
}

#[test]
fn a_task_that_was_quiet_is_next_but_has_saved_no_turns() {
    let mut queue = queue(&[(1, 1); 10]);
    for _ in 0..5 {
        queue.serve_first().unwrap();
    }
    for id in 10..13 {
        queue.push(&task(2), Waiting { id, images: 1, item: 2 });
    }
    assert_eq!(served(&mut queue), [10, 5, 11, 6, 12, 7, 8, 9]);
}

#[test]
fn a_task_that_was_just_served_waits_for_its_turn_also_if_it_was_empty_meanwhile() {
    let mut queue = queue(&[(1, 1), (1, 1), (2, 1)]);
    assert_eq!(queue.serve_first().unwrap().item, 1);
    assert_eq!(queue.serve_first().unwrap().item, 2);
    queue.push(&task(2), Waiting { id: 9, images: 1, item: 2 });
    assert_eq!(served(&mut queue), [1, 9]);
}

#[test]
fn what_is_dismissed_or_removed_is_not_charged() {
    let mut queue = queue(&[(1, 1), (1, 1), (1, 1), (1, 1), (2, 1), (2, 1)]);
    assert_eq!(queue.dismiss_first().unwrap().id, 0);
    assert_eq!(queue.remove(&task(1), 2).unwrap().id, 2);
    assert!(queue.remove(&task(1), 2).is_none() && queue.remove(&task(7), 1).is_none());
    assert_eq!(queue.images(), 4);
    assert_eq!(served(&mut queue), [1, 4, 3, 5]);
}

#[test]
fn tasks_that_are_gone_are_forgotten() {
    let mut queue = FairQueue::default();
    for id in 0..10_000 {
        queue.push(&task(id as usize), Waiting { id, images: 1, item: 0 });
        queue.push(&task(0), Waiting { id: 10_000 + id, images: 1, item: 0 });
        queue.serve_first().unwrap();
        queue.serve_first().unwrap();
    }
    assert!(queue.lines.len() <= 3, "{} lines are kept", queue.lines.len());
}

#[derive(Debug, Clone)]
enum Step {
    Push { task: usize, images: usize },
    Serve,
    Dismiss,
    Remove(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..5usize, 1..4usize).prop_map(|(task, images)| Step::Push { task, images }),
        2 => Just(Step::Serve),
        1 => Just(Step::Dismiss),
        1 => (0..200u64).prop_map(Step::Remove),
    ];
    vec(step, 0..200)
}

proptest! {
    #[test]
    fn nothing_is_lost_or_doubled_and_the_order_within_a_task_is_kept(steps in steps()) {
        let mut queue = FairQueue::default();
        let mut waiting: BTreeMap<usize, Vec<(u64, usize)>> = BTreeMap::new();
        let mut next_id = 0;
        let rest = std::iter::repeat_n(Step::Serve, 200);
        for step in steps.into_iter().chain(rest) {
            match step {
                Step::Push { task: number, images } => {
                    queue.push(&task(number), Waiting { id: next_id, images, item: number });
                    waiting.entry(number).or_default().push((next_id, images));
                    next_id += 1;
                }
                Step::Serve | Step::Dismiss => {
                    let first = queue.first().map(|first| first.id);
                    let taken = if matches!(step, Step::Serve) { queue.serve_first() } else { queue.dismiss_first() };
                    prop_assert_eq!(taken.as_ref().map(|taken| taken.id), first);
                    if let Some(taken) = taken {
                        prop_assert_eq!(waiting.get_mut(&taken.item).unwrap().remove(0), (taken.id, taken.images));
                    } else {
                        prop_assert!(waiting.values().all(Vec::is_empty));
                    }
                }
                Step::Remove(id) => {
                    let owner = waiting.iter_mut().find(|(_, line)| line.iter().any(|(other, _)| *other == id));
                    let number = owner.as_ref().map_or(0, |(number, _)| **number);
                    if let Some((_, line)) = owner {
                        line.retain(|(other, _)| *other != id);
                        prop_assert_eq!(queue.remove(&task(number), id).map(|removed| removed.id), Some(id));
                    } else {
                        prop_assert!(queue.remove(&task(number), id).is_none());
                    }
                }
            }
            let images: usize = waiting.values().flatten().map(|(_, images)| images).sum();
            prop_assert_eq!(queue.images(), images);
            prop_assert_eq!(queue.iter().count(), waiting.values().flatten().count());
        }
    }

    /// Golestani's measure of fairness: no task that waits all the time falls behind another by more than one item of
    /// each.
    #[test]
    fn tasks_that_wait_all_the_time_are_served_alike(
        items in vec((0..4usize, 1..5usize), 1..200),
        served in 1..100usize,
    ) {
        let mut queue = queue(&items);
        let (mut given, largest) = ([0usize; 4], 4);
        for _ in 0..served {
            let waits = |number: usize| queue.iter().any(|waiting| waiting.item == number);
            let waiting: Vec<usize> = (0..4).filter(|number| waits(*number)).collect();
            for (a, b) in waiting.iter().flat_map(|a| waiting.iter().map(move |b| (*a, *b))) {
                prop_assert!(given[a].abs_diff(given[b]) <= 2 * largest, "{given:?}");
            }
            let Some(first) = queue.serve_first() else { break };
            given[first.item] += first.images;
        }
    }
}
