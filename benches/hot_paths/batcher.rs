//! Fills a queue and empties it in batches of eight.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{BatchSize, Criterion, Throughput};
use turret::{
    engine::{
        BatchSizes, BatchTimes,
        batcher::{Batch, Batcher, Next},
    },
    ids::TaskName,
};

use crate::made::task;

const IMAGES: u64 = 256;

pub(crate) fn bench(criterion: &mut Criterion) {
    let now = Instant::now();
    let measure = |size| Ok::<_, std::convert::Infallible>(Duration::from_millis(10 + size as u64));
    let Ok(times) = BatchTimes::measured(BatchSizes::up_to(8), measure);
    let mut group = criterion.benchmark_group("batcher: push and next");
    group.throughput(Throughput::Elements(IMAGES));
    for tasks in [1, 16, 256] {
        let names: Vec<TaskName> = (0..tasks).map(task).collect();
        let queued =
            || (0..IMAGES).map(|id| (id, names[id as usize % names.len()].clone())).collect();
        let through = |queued: Vec<(u64, TaskName)>| {
            let mut batcher = Batcher::new(Duration::ZERO);
            let deadline = Some(now + Duration::from_secs(60));
            for (id, task) in &queued {
                batcher.push(task, *id, 1, deadline, *id, now);
            }
            while let Next::Batch(Batch { items, .. }) = batcher.next(now, &times, |_| true) {
                black_box(items);
            }
            queued
        };
        group.bench_function(format!("{IMAGES} images of {tasks} tasks"), |bencher| {
            bencher.iter_batched(queued, through, BatchSize::SmallInput);
        });
    }
    group.finish();
}
