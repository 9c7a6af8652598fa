//! The path of every request beside the forward pass: batcher, registry, heads, preprocessing.
//!
//! Run by `make bench-hot-paths`, or `cargo bench --bench hot_paths -- batcher` for one group.
#![expect(clippy::expect_used, reason = "a benchmark that cannot continue has failed")]

mod batcher;
mod heads;
mod made;
mod preprocessing;
mod registry;

use criterion::{criterion_group, criterion_main};

criterion_group!(hot_paths, batcher::bench, registry::bench, heads::bench, preprocessing::bench);
criterion_main!(hot_paths);
