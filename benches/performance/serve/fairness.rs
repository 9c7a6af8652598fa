//! Fairness: a busy task with ten times the load must not raise a quiet task's latency.

use std::time::Duration;

use anyhow::Result;

use super::{Bench, Form};
use crate::{
    engine::progress,
    load::{OpenLoop, Outcome},
    report::{Required, figures},
};

/// Load of the quiet task as a share of the capacity.
const QUIET: f64 = 0.06;
/// The same in overload, where the busy task alone exceeds the capacity.
const QUIET_IN_OVERLOAD: f64 = 0.15;
const TIMES: f64 = 10.0;
/// Least number of requests of the quiet task in each measurement.
const REQUESTS: f64 = 60.0;
const DEADLINE: Duration = Duration::from_secs(1);

pub(super) async fn measure(bench: &mut Bench, capacity: f64) -> Result<()> {
    let alone = beside(bench, QUIET * capacity, 0).await?;
    let spread = beside(bench, QUIET * capacity, 10).await?;
    let busy = beside(bench, QUIET * capacity, 1).await?;
    let flooded = beside(bench, QUIET_IN_OVERLOAD * capacity, 1).await?;
    let row = |what: &str, (quiet, other): &(Outcome, Option<Outcome>)| -> Result<Vec<String>> {
        let times = quiet.verdict_times()?;
        let mut row = vec![what.to_owned()];
        row.extend([0.5, 0.99].map(|quantile| figures(times.quantile(quantile))));
        row.push(quiet.failures().to_string());
        row.push(
            other.as_ref().map_or_else(|| "-".to_owned(), |other| figures(other.throughput())),
        );
        row.push(
            other.as_ref().map_or_else(|| "-".to_owned(), |other| other.failures().to_string()),
        );
        Ok(row)
    };
    let rows = vec![
        row("alone", &alone)?,
        row("beside ten tasks of the same load each", &spread)?,
        row("beside one task of ten times the load", &busy)?,
        row("in overload: 0.15 of capacity, beside one task of 1.5", &flooded)?,
    ];
    let header = [
        "quiet task, 0.06 of capacity",
        "its p50, ms",
        "its p99, ms",
        "its refusals",
        "the others' verdicts/s",
        "the others' refusals",
    ];
    bench.report.table("Fairness between tasks, JPEG, open loop, deadline 1 s", &header, rows);
    let p99 = |outcome: &(Outcome, Option<Outcome>)| {
        anyhow::Ok(outcome.0.verdict_times()?.quantile(0.99))
    };
    let name = "quiet task's p99 beside one task of ten times the load to beside ten equal ones";
    bench.report.bar(name, Required::AtMost(1.1), p99(&busy)? / p99(&spread)?);
    let name = "quiet task's refusals beside a task that asks for 1.5 times the capacity";
    bench.report.bar(name, Required::AtMost(0.0), flooded.0.failures() as f64);
    Ok(())
}

/// Runs the quiet task at this rate beside ten times that rate, spread over `others` tasks.
async fn beside(bench: &Bench, rate: f64, others: usize) -> Result<(Outcome, Option<Outcome>)> {
    progress(&format!("fairness, {others} other tasks"));
    let time = bench.time.max(Duration::from_secs_f64(bench.samples * REQUESTS / rate));
    let load = |rate, seed| OpenLoop { rate, time, seed, timeout: Some(DEADLINE) };
    let quiet_requests = bench.requests(Form::Jpeg, 0..1);
    let quiet = load(rate, 1).run(bench.server.grpc, &quiet_requests);
    if others == 0 {
        return Ok((quiet.await?, None));
    }
    let busy_requests = bench.requests(Form::Jpeg, 1..1 + others);
    let busy = load(TIMES * rate, 2).run(bench.server.grpc, &busy_requests);
    let (quiet, busy) = tokio::join!(quiet, busy);
    Ok((quiet?, Some(busy?)))
}
