//! From features to verdicts.
//!
//! A forward pass of ResNet34 takes 10 to 50 ms an image on two cores; everything here should be
//! under 2 % of the passes that give its features.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use turret::head::{Head, judge_by_all};

use crate::made::{WIDTH, features, head};

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("linear heads");
    for (heads, classes, images) in
        [(1, 10, 1), (1, 1000, 1), (1, 1000, 64), (1000, 2, 1), (1000, 10, 1)]
    {
        let features: Vec<Vec<f32>> = (0..images).map(features).collect();
        let heads: Vec<Head> = (0..heads).map(|number| head(number, 1, classes)).collect();
        group.throughput(Throughput::Elements((images * heads.len() * classes * WIDTH) as u64));
        let name = format!("{images} images, {} heads of {classes} classes", heads.len());
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for features in &features {
                    let read: Vec<(&Head, &[f32])> =
                        heads.iter().map(|head| (head, &features[..])).collect();
                    black_box(judge_by_all(black_box(&read)));
                }
            });
        });
    }
    group.finish();
}
