//! One task against a thousand: heads cost little beside the forward pass that they share.

use anyhow::Result;

use super::{Bench, Form, TASKS};
use crate::{
    engine::progress,
    load::{Outcome, closed_loop},
    report::{Required, figures, median, median_ratio},
};

const CLIENTS: usize = 16;

pub(super) async fn measure(bench: &mut Bench) -> Result<()> {
    let one = bench.requests(Form::Raw, 0..1);
    let mixed = bench.requests(Form::Raw, 0..TASKS);
    let for_one = bench.requests_for_all(Form::Raw, 1);
    let for_all = bench.requests_for_all(Form::Raw, TASKS);
    let mut speeds = [Vec::new(), Vec::new()];
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..bench.rounds {
        progress(&format!("one task and {TASKS}, round {} of {}", round + 1, bench.rounds));
        for (speeds, requests) in speeds.iter_mut().zip([&one, &mixed]) {
            let outcome = closed_loop(bench.server.grpc, CLIENTS, bench.time, requests).await?;
            speeds.push(outcome.throughput());
        }
        for (times, requests) in times.iter_mut().zip([&for_one, &for_all]) {
            let outcome = closed_loop(bench.server.grpc, 1, bench.time, requests).await?;
            times.push(median_time(&outcome)?);
        }
    }
    let ([one, mixed], [for_one, for_all]) = (speeds, times);
    let (speed, time) = (median_ratio(&mixed, &one), median_ratio(&for_all, &for_one));
    let row = |what: String, one: &[f64], many: &[f64], ratio: f64| {
        vec![what, figures(median(one)), figures(median(many)), format!("{ratio:.3}")]
    };
    let rows = vec![
        row(format!("verdicts/s, {CLIENTS} clients, a task for each request"), &one, &mixed, speed),
        row(
            "median ms of one image, one client, all tasks in the request".to_owned(),
            &for_one,
            &for_all,
            time,
        ),
    ];
    bench.report.table("Many tasks, raw RGB8", &["", "one task", "1,000 tasks", "ratio"], rows);
    bench.report.bar("1,000 tasks mixed to one task, throughput", Required::AtLeast(0.98), speed);
    bench.report.bar("one image for 1,000 tasks to one task, time", Required::AtMost(1.1), time);
    Ok(())
}

fn median_time(outcome: &Outcome) -> Result<f64> {
    Ok(outcome.verdict_times()?.quantile(0.5))
}
