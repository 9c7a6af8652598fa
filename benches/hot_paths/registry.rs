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

use criterion::Criterion;
use turret::{
    head::Head,
    registry::{Change, Registry},
};

use crate::made::{head, task};

const HEADS: usize = 1000;

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
