use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

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
    std::iter::from_fn(|| queue.pop()).map(|waiting| waiting.id).collect()
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
fn a_task_that_was_quiet_is_next_with_what_it_may_have_saved_and_then_takes_turns() {
    let mut queue = queue(&[(1, 1); 100]);
    for _ in 0..50 {
        queue.pop().unwrap();
    }
    for id in 100..140 {
        queue.push(&task(2), Waiting { id, images: 1, item: 2 });
    }
    let order = served(&mut queue);
    let of_quiet = order.iter().map(|id| *id >= 100);
    let (before, turns): (Vec<bool>, Vec<bool>) =
        (of_quiet.clone().take(17).collect(), of_quiet.skip(17).collect());
    assert_eq!(before, [true; MAX_CREDIT + 1]);
    assert_eq!(turns[..46], [false, true].repeat(23));
    assert!(turns[46..].iter().all(|of_quiet| !of_quiet), "the rest is the loud task's");
}

#[test]
fn those_who_had_no_more_than_their_share_are_served_in_the_order_of_their_coming() {
    let mut queue = queue(&[(1, 1); 100]);
    for _ in 0..50 {
        queue.pop().unwrap();
    }
    for (id, number) in (100..).zip([2, 2, 3, 2, 4, 3]) {
        queue.push(&task(number), Waiting { id, images: 1, item: number });
    }
    assert_eq!(served(&mut queue)[..7], [100, 101, 102, 103, 104, 105, 50]);
}

#[test]
fn a_task_that_was_just_served_waits_for_its_turn_also_if_it_was_empty_meanwhile() {
    let mut queue = queue(&[(1, 1), (1, 1), (2, 1)]);
    assert_eq!(queue.pop().unwrap().item, 1);
    assert_eq!(queue.pop().unwrap().item, 2);
    queue.push(&task(2), Waiting { id: 9, images: 1, item: 2 });
    assert_eq!(served(&mut queue), [1, 9]);
}

#[test]
fn what_is_dismissed_or_removed_is_not_charged() {
    let mut queue = queue(&[(1, 1), (1, 1), (1, 1), (1, 1), (2, 1), (2, 1)]);
    assert_eq!(queue.drop_next().unwrap().id, 0);
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
        queue.pop().unwrap();
        queue.pop().unwrap();
    }
    assert!(queue.flows.len() <= MAX_CREDIT + 3, "{} lines are kept", queue.flows.len());
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
                    let taken = if matches!(step, Step::Serve) { queue.pop() } else { queue.drop_next() };
                    prop_assert_eq!(taken.as_ref().map(|taken| taken.id), first);
                    if let Some(taken) = taken {
                        prop_assert_eq!(waiting.get_mut(&taken.item).unwrap().remove(0), (taken.id, taken.images));
                    } else {
                        prop_assert!(waiting.values().all(Vec::is_empty));
                    }
                }
                Step::Remove(id) => {
                    let owner = waiting.iter_mut().find(|(_, flow)| flow.iter().any(|(other, _)| *other == id));
                    let number = owner.as_ref().map_or(0, |(number, _)| **number);
                    if let Some((_, flow)) = owner {
                        flow.retain(|(other, _)| *other != id);
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

    /// Golestani's measure of fairness: no task that waits all the time falls behind another by
    /// more than an item of each.
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
            let Some(first) = queue.pop() else { break };
            given[first.item] += first.images;
        }
    }
}

/// Times from coming to answer, in services, at a device that serves one image after another;
/// Poisson arrivals of these rates. Those of the first task are left out.
fn loud_neighbour(rates: &[f64], seed: u64) -> Vec<f64> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut arrivals: Vec<(f64, usize)> = Vec::new();
    for (number, rate) in rates.iter().enumerate() {
        let mut time = 0.0;
        while time < 10_000.0 {
            arrivals.push((time, number));
            time -= random.random_range(f64::MIN_POSITIVE..1.0).ln() / rate;
        }
    }
    arrivals.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut queue, mut now, mut times) = (FairQueue::default(), 0.0f64, Vec::new());
    let (mut arrivals, mut held) = ((0..).zip(arrivals).peekable(), vec![0; rates.len()]);
    loop {
        while let Some((id, (time, number))) = arrivals.next_if(|(_, (time, _))| *time <= now) {
            // The loud task's places are bounded, or its line would grow for ever.
            if held[number] < 228 {
                held[number] += 1;
                queue.push(&task(number), Waiting { id, images: 1, item: (time, number) });
            }
        }
        let Some(first) = queue.pop() else {
            let Some((_, (time, _))) = arrivals.peek() else { return times };
            now = *time;
            continue;
        };
        let (came, number) = first.item;
        now += 1.0;
        held[number] -= 1;
        times.extend((number > 0).then_some(now - came));
    }
}

#[test]
fn a_task_at_ten_times_the_load_raises_the_99th_percentile_of_others_by_a_tenth_at_most() {
    let percentile_99 = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        times[times.len() * 99 / 100]
    };
    for tasks in [2, 10] {
        for load in [0.3, 0.5, 0.7, 0.9] {
            let mut rates = vec![load / tasks as f64; tasks];
            let before = percentile_99(loud_neighbour(&rates, 1));
            rates[0] *= 10.0;
            let beside = percentile_99(loud_neighbour(&rates, 2));
            assert!(
                beside <= 1.1 * before,
                "{tasks} tasks at {load}: from {before:.1} to {beside:.1} services"
            );
        }
    }
}
