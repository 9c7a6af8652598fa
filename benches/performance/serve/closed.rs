//! Closed loops of 1, 4, 16 and 64 clients, each waiting for its answer.

use anyhow::Result;

use super::{Bench, Form};
use crate::{
    engine::progress,
    load::{Outcome, Times, closed_loop},
    report::{Required, figures, median, median_ratio},
};

const CLIENTS: [usize; 4] = [1, 4, 16, 64];
/// Number of clients to which the bars apply.
const BAR: usize = 16;

/// A row of the table with one measurement a round.
#[derive(Debug)]
struct Line {
    form: Form,
    clients: usize,
    outcomes: Vec<Outcome>,
    bare: Vec<f64>,
    mean_batches: Vec<f64>,
}

/// Returns the server's capacity in verdicts a second on JPEG.
pub(super) async fn measure(bench: &mut Bench) -> Result<f64> {
    let combinations =
        Form::ALL.into_iter().flat_map(|form| CLIENTS.map(|clients| (form, clients)));
    let mut lines: Vec<Line> = combinations
        .map(|(form, clients)| Line {
            form,
            clients,
            outcomes: Vec::new(),
            bare: Vec::new(),
            mean_batches: Vec::new(),
        })
        .collect();
    for round in 0..bench.rounds {
        progress(&format!("closed loops, round {} of {}", round + 1, bench.rounds));
        for line in &mut lines {
            line.bare.push(bench.bare_speed()?);
            let requests = bench.requests(line.form, 0..1);
            let before = batches(bench)?;
            line.outcomes
                .push(closed_loop(bench.server.grpc, line.clients, bench.time, &requests).await?);
            let after = batches(bench)?;
            line.mean_batches.push((after.0 - before.0) / (after.1 - before.1));
        }
    }
    let mut rows = Vec::new();
    let mut capacity = 0.0f64;
    for line in &lines {
        let speeds: Vec<f64> = line.outcomes.iter().map(Outcome::throughput).collect();
        let share = median_ratio(&speeds, &line.bare);
        let times = Times::of_verdicts(&line.outcomes)?;
        let client: Vec<f64> =
            line.outcomes.iter().map(|outcome| outcome.client_processors).collect();
        let failures: usize = line.outcomes.iter().map(Outcome::failures).sum();
        rows.push(vec![
            line.form.name().to_owned(),
            line.clients.to_string(),
            figures(median(&speeds)),
            figures(median(&line.bare)),
            format!("{:.1} %", 100.0 * share),
            figures(times.quantile(0.5)),
            figures(times.quantile(0.99)),
            figures(times.quantile(0.999)),
            figures(median(&line.mean_batches)),
            format!("{:.1} %", 100.0 * median(&client)),
            failures.to_string(),
        ]);
        if line.form == Form::Jpeg {
            capacity = capacity.max(median(&speeds));
        }
        if line.clients == BAR {
            let least = match line.form {
                Form::Raw => 0.95,
                Form::Jpeg => 0.92,
            };
            let name =
                format!("{} through gRPC to the bare engine, {BAR} clients", line.form.name());
            bench.report.bar(name, Required::AtLeast(least), share);
        }
    }
    let header = [
        "224x224 picture",
        "clients",
        "verdicts/s",
        "bare engine, images/s",
        "share",
        "p50, ms",
        "p99, ms",
        "p99.9, ms",
        "images a batch",
        "client's CPU, of one processor",
        "failures",
    ];
    bench.report.table("Closed loop, one task", &header, rows);
    Ok(capacity)
}

/// Returns the numbers of images and batches of all forward passes so far.
fn batches(bench: &Bench) -> Result<(f64, f64)> {
    Ok((
        bench.server.metric("turret_batch_images_sum")?,
        bench.server.metric("turret_batch_images_count")?,
    ))
}
