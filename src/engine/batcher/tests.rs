use std::convert::Infallible;

use super::*;
use crate::engine::BatchSizes;

const MS: Duration = Duration::from_millis(1);

/// Passes of 1, 2, 4 and 8 images.
fn times(milliseconds: [u32; 4]) -> BatchTimes {
    let mut measured = milliseconds.into_iter();
    let measure = |_| Ok::<_, Infallible>(measured.next().unwrap() * MS);
    let Ok(times) = BatchTimes::measured(BatchSizes::up_to(8), measure);
    times
}

/// A device on which eight images take as long as one.
fn wide() -> BatchTimes {
    times([10; 4])
}

/// A device on which nothing is gained by a larger batch.
fn flat() -> BatchTimes {
    times([10, 20, 40, 80])
}

fn task(name: &str) -> TaskName {
    name.parse().unwrap()
}

/// Items of one task, each with its number of images, numbered from 0.
fn batcher(max_delay: Duration, images: &[usize], now: Instant) -> Batcher<u64> {
    let mut batcher = Batcher::new(max_delay);
    for (id, images) in (0..).zip(images) {
        batcher.push(&task("part"), id, *images, None, id, now);
    }
    batcher
}

fn batch(items: &[u64]) -> Next<u64> {
    Next::Batch(Batch { items: items.to_vec(), dropped: Vec::new() })
}

fn next(batcher: &mut Batcher<u64>, now: Instant, times: &BatchTimes) -> Next<u64> {
    batcher.next(now, times, |_| true)
}

#[test]
fn an_idle_device_never_waits_when_no_delay_is_set() {
    let now = Instant::now();
    assert_eq!(next(&mut batcher(Duration::ZERO, &[1], now), now, &wide()), batch(&[0]));
    assert_eq!(next(&mut batcher(Duration::ZERO, &[], now), now, &wide()), Next::Empty);
}

#[test]
fn a_batch_has_the_largest_size_that_is_filled_where_that_pays() {
    let now = Instant::now();
    let mut batcher = batcher(Duration::ZERO, &[1; 15], now);
    for items in [0..8, 8..12, 12..14, 14..15] {
        assert_eq!(next(&mut batcher, now, &wide()), batch(&items.collect::<Vec<_>>()));
    }
    assert_eq!(next(&mut batcher, now, &wide()), Next::Empty);
}

#[test]
fn nobody_waits_for_others_where_larger_batches_gain_nothing() {
    let now = Instant::now();
    let mut batcher = batcher(Duration::ZERO, &[1; 8], now);
    assert_eq!(next(&mut batcher, now, &flat()), batch(&[0]));
}

#[test]
fn items_of_several_images_stay_whole_and_in_order() {
    let now = Instant::now();
    let mut batcher = batcher(Duration::ZERO, &[3, 3, 3, 19, 1], now);
    assert_eq!(next(&mut batcher, now, &wide()), batch(&[0, 1]));
    assert_eq!(next(&mut batcher, now, &wide()), batch(&[2]));
    assert_eq!(next(&mut batcher, now, &wide()), batch(&[3]), "larger than a batch: alone");
    assert_eq!(next(&mut batcher, now, &wide()), batch(&[4]));
}

#[test]
fn with_a_delay_set_it_waits_for_company_until_full_or_due() {
    let now = Instant::now();
    let due = now + 5 * MS;
    let mut waiting = batcher(5 * MS, &[1, 1, 1], now);
    assert_eq!(next(&mut waiting, now, &flat()), Next::NotBefore(due));
    assert_eq!(next(&mut waiting, due, &flat()), batch(&[0, 1]), "the largest size that is filled");
    let mut full = batcher(5 * MS, &[1; 9], now);
    assert_eq!(next(&mut full, now, &flat()), batch(&[0, 1, 2, 3, 4, 5, 6, 7]));
    assert_eq!(next(&mut full, now, &flat()), Next::NotBefore(due));
}

#[test]
fn a_hundred_images_of_a_loud_task_do_not_keep_a_quiet_one_from_the_next_batch() {
    let now = Instant::now();
    for times in [wide(), flat()] {
        let mut batcher = batcher(Duration::ZERO, &[1; 100], now);
        next(&mut batcher, now, &times);
        batcher.push(&task("quiet"), 1000, 1, None, 1000, now);
        let Next::Batch(Batch { items, .. }) = next(&mut batcher, now, &times) else {
            panic!("no batch")
        };
        assert_eq!(items[0], 1000, "{items:?}");
    }
}

#[test]
fn what_would_be_late_is_dropped_and_others_take_its_place() {
    let now = Instant::now();
    let mut batcher = Batcher::new(Duration::ZERO);
    for (id, left) in (0..).zip([9, 10, 50, 0, 11, 30, 9, 70, 80, 90, 100]) {
        batcher.push(&task("part"), id, 1, Some(now + left * MS), id, now);
    }
    let Next::Batch(Batch { items, dropped }) = next(&mut batcher, now, &wide()) else {
        panic!("no batch")
    };
    assert_eq!(items, [1, 2, 4, 5, 7, 8, 9, 10]);
    assert_eq!(dropped, [(0, 10 * MS), (3, 10 * MS), (6, 10 * MS)]);
}

#[test]
fn an_item_of_many_images_is_late_by_all_its_passes() {
    let now = Instant::now();
    for (left, is_late) in [(29, true), (30, false)] {
        let mut batcher = Batcher::new(Duration::ZERO);
        batcher.push(&task("part"), 0, 17, Some(now + left * MS), 0, now);
        let Next::Batch(batch) = next(&mut batcher, now, &wide()) else { panic!("no batch") };
        assert_eq!(
            (batch.items.is_empty(), batch.dropped.len() == 1),
            (is_late, is_late),
            "{left} ms left"
        );
    }
}

#[test]
fn what_nobody_wants_any_more_leaves_and_the_order_of_the_others_stays() {
    let now = Instant::now();
    let mut batcher = batcher(Duration::ZERO, &[1; 8], now);
    assert_eq!(batcher.remove(&task("part"), 3), Some(3));
    assert_eq!(batcher.remove(&task("part"), 3), None);
    let Next::Batch(batch) = batcher.next(now, &wide(), |id| id % 2 == 1) else {
        panic!("no batch")
    };
    assert_eq!(batch.items, [1, 5, 7]);
    assert_eq!(batch.dropped.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [0, 2, 4, 6]);
    assert_eq!(next(&mut batcher, now, &wide()), Next::Empty);
}
