//! A request's use of the registry, with and without concurrent swaps of heads.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use criterion::{BatchSize, Criterion};
use turret::{
    head::Head,
    ids::TaskName,
    registry::{Change, Registry},
};

use crate::made::{head, task};

const HEADS: usize = 1000;
const MANY_HEADS: usize = 10_000;

pub(crate) fn bench(criterion: &mut Criterion) {
    let registry = Arc::new(Registry::default());
    registry.apply((0..HEADS).map(|number| install(head(number, 1, 2))).collect(), 0);
    let name = task(HEADS / 2);
    let mut group = criterion.benchmark_group("registry: snapshot and look-up among 1,000 heads");
    let mut read = |what: &str| {
        group.bench_function(what, |bencher| {
            bencher.iter(|| black_box(registry.snapshot().get(black_box(&name)).cloned()));
        });
    };
    read("no swaps");
    for (what, pause) in [
        ("100 swaps a second", Duration::from_millis(10)),
        ("swaps without a pause", Duration::ZERO),
    ] {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| swap_until(&stop, &registry, pause));
            read(what);
            stop.store(true, Ordering::Relaxed);
        });
    }
    group.finish();
    nearest_names(criterion);
}

/// What a request for an unknown task costs beside the error.
fn nearest_names(criterion: &mut Criterion) {
    let registry = Registry::default();
    let heads: Vec<Head> = (0..MANY_HEADS).map(|number| head(number, 1, 2)).collect();
    registry.apply(heads.into_iter().map(install).collect(), 0);
    let table = registry.snapshot();
    let mut group = criterion.benchmark_group("registry: nearest names among 10,000 heads");
    let long = "task-".to_owned() + &"0123456789".repeat(5);
    for (what, asked) in [("short", "tsk-4711"), ("long", &long), ("far", "bracket-left")] {
        let asked: TaskName = asked.parse().expect("the name is valid");
        group.bench_function(format!("{what}, index"), |bencher| {
            bencher.iter(|| black_box(table.nearest(black_box(&asked), 3)));
        });
        group.bench_function(format!("{what}, every name compared"), |bencher| {
            bencher.iter(|| {
                let names = table.heads().map(|head| head.task.as_str());
                let distance = |name| strsim::damerau_levenshtein(asked.as_str(), name);
                black_box(names.map(distance).min())
            });
        });
    }
    group.bench_function("indexing the names", |bencher| {
        let install_one = |version| vec![install(head(MANY_HEADS, version, 2))];
        let withdraw = || vec![Change::Withdraw { task: task(MANY_HEADS) }];
        bencher.iter_batched(
            || {
                registry.apply(install_one(1), 0);
                registry.apply(withdraw(), 0);
                registry.snapshot()
            },
            |table| table.nearest(&task(0), 0),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn swap_until(stop: &AtomicBool, registry: &Registry, pause: Duration) {
    for version in 2.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        registry.apply(vec![install(head(version as usize % HEADS, version, 2))], 0);
        thread::sleep(pause);
    }
}

fn install(head: Head) -> Change {
    Change::Install(head)
}
