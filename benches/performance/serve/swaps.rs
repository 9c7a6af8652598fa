//! A hundred new heads a second under load.

use anyhow::Result;

use super::{Bench, Form, TASKS};
use crate::{
    engine::progress,
    load::{Outcome, Times, closed_loop},
    report::{Required, figures, median_ratio},
};

const CLIENTS: usize = 16;
const SWAPS_A_SECOND: f64 = 100.0;
/// Counts the heads that were installed.
pub(super) const INSTALLED: &str = "turret_head_reloads_total{result=\"installed\"}";

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    let requests = bench.requests(Form::Raw, 0..TASKS);
    let (mut quiet, mut swapping): (Vec<Outcome>, Vec<Outcome>) = Default::default();
    let (mut published, before) = (0, bench.server.metric(INSTALLED)?);
    for round in 0..bench.rounds {
        progress(&format!("swaps, round {} of {}", round + 1, bench.rounds));
        quiet.push(closed_loop(bench.server.grpc, CLIENTS, bench.time, &requests).await?);
        let swapper = bench.heads.swap_steadily(SWAPS_A_SECOND, 2 * bench.time)?;
        swapping.push(closed_loop(bench.server.grpc, CLIENTS, bench.time, &requests).await?);
        published += swapper.stop()?;
    }
    let installed = bench.server.metric(INSTALLED)? - before;
    let mut rows = Vec::new();
    for (name, outcomes) in [("0", &quiet), ("100", &swapping)] {
        let times = Times::of_verdicts(outcomes)?;
        let speed = outcomes.iter().map(Outcome::throughput).sum::<f64>() / outcomes.len() as f64;
        let failures: usize = outcomes.iter().map(Outcome::failures).sum();
        let mut row = vec![name.to_owned(), figures(speed)];
        row.extend([0.5, 0.99, 0.999].map(|quantile| figures(times.quantile(quantile))));
        row.push(failures.to_string());
        rows.push(row);
    }
    let title = format!(
        "Swaps under load, {CLIENTS} clients, raw RGB8, {TASKS} tasks ({published} published, {installed} of them \
         installed by the end of the load)"
    );
    let header = ["swaps/s", "verdicts/s", "p50, ms", "p99, ms", "p99.9, ms", "failures"];
    bench.report.table(&title, &header, rows);
    let p99 = |outcomes: &[Outcome]| -> Result<Vec<f64>> {
        outcomes.iter().map(|outcome| Ok(outcome.verdict_times()?.quantile(0.99))).collect()
    };
    let ratio = median_ratio(&p99(&swapping)?, &p99(&quiet)?);
    bench.report.bar("p99 with 100 swaps a second to without", Required::AtMost(1.05), ratio);
    let failures: usize = swapping.iter().map(Outcome::failures).sum();
    bench.report.bar("failed requests during swaps", Required::AtMost(0.0), failures as f64);
    Ok(())
}
