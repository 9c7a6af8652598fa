//! Open loops: requests arrive independently of answers, at 70 % and at 300 % of capacity.

use std::time::Duration;

use anyhow::Result;

use super::{Bench, Form, TASKS};
use crate::{
    engine::progress,
    load::OpenLoop,
    report::{Required, figures},
};

/// Least number of requests behind a p99.
const REQUESTS: f64 = 500.0;
/// Deadline of requests in overload.
const DEADLINE: Duration = Duration::from_secs(1);
const SEED: u64 = 4;

pub(super) async fn measure(bench: &mut Bench, capacity: f64) -> Result<()> {
    let requests = bench.requests(Form::Jpeg, 0..TASKS);
    let forward = 1e3 / bench.bare.run(1, bench.time)?;

    progress("open loop at 70 %");
    let rate = 0.7 * capacity;
    let time = bench.time.max(Duration::from_secs_f64(bench.samples * REQUESTS / rate));
    let calm = OpenLoop { rate, time, seed: SEED, timeout: None }
        .run(bench.server.grpc, &requests)
        .await?;

    progress("open loop at 300 %");
    let computed = bench.server.metric("turret_batch_images_sum")?;
    let rate = 3.0 * capacity;
    let overload = OpenLoop { rate, time: 3 * bench.time, seed: SEED, timeout: Some(DEADLINE) };
    let overload = overload.run(bench.server.grpc, &requests).await?;
    let computed = bench.server.metric("turret_batch_images_sum")? - computed;

    let mut rows = Vec::new();
    for (load, outcome) in [("70 %", &calm), ("300 %, deadline 1 s", &overload)] {
        let (verdicts, refusals) = (outcome.verdict_times()?, outcome.refusal_times()?);
        let mut row = vec![load.to_owned(), figures(outcome.throughput())];
        row.extend([0.5, 0.99, 0.999].map(|quantile| figures(verdicts.quantile(quantile))));
        row.push(figures(refusals.quantile(0.99)));
        row.push(format!("{:.1} %", 100.0 * outcome.client_processors));
        let codes = outcome.codes().into_iter().map(|(code, count)| format!("{count} {code}"));
        row.push(codes.collect::<Vec<_>>().join(", "));
        rows.push(row);
    }
    let title = format!(
        "Open loop, JPEG, {TASKS} tasks, {} verdicts/s taken for capacity; a verdict's time counts from when its \
         request was due, a rejection's from when it was sent",
        figures(capacity)
    );
    let header = [
        "load",
        "verdicts/s",
        "p50, ms",
        "p99, ms",
        "p99.9, ms",
        "refusals' p99, ms",
        "client's CPU, of one processor",
        "answers",
    ];
    bench.report.table(&title, &header, rows);
    let p99 = calm.verdict_times()?.quantile(0.99) / forward;
    bench.report.bar("p99 at 70 % load to the batch-1 forward pass", Required::AtMost(3.0), p99);
    let goodput = overload.throughput() / capacity;
    bench.report.bar("goodput at 3x overload to capacity", Required::AtLeast(0.95), goodput);
    let refusals = overload.refusal_times()?.quantile(0.99);
    bench.report.bar("refusals' p99 at 3x overload, ms", Required::AtMost(2.0), refusals);
    let in_vain = computed - overload.verdicts() as f64;
    bench.report.bar(
        "images computed at 3x overload and not answered",
        Required::AtMost(0.0),
        in_vain,
    );
    Ok(())
}
