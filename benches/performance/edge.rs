//! `make bench-edge`: the edge's own cost, measured with a base that returns at once.

use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use bytes::Bytes;
use clap::Args;
use turret::metrics::{Code, DecisionLabel, Metrics, Rpc, Stage, TaskCounters};

use crate::{
    client::{self, Payload},
    engine::progress,
    heads::{Heads, task_name},
    load::{Requests, closed_loop},
    null_server::{WIDTHS, command, identity},
    pictures,
    process::ServerProcess,
    report::{Report, Required, figures},
};

/// Side of a 20 KB RGB8 picture.
const SMALL_SIDE: u32 = 82;
const CLIENTS: [usize; 3] = [1, 16, 64];
/// Number of clients to which the bar applies.
const BAR: usize = 16;
const PICTURES: usize = 32;
const COUNT: &str = "turret_request_duration_seconds_count{rpc=\"Classify\"}";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[arg(long, default_value = pictures::FOLDER)]
    pictures: std::path::PathBuf,
    /// Length of a measurement
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Trial run of one second
    #[arg(long)]
    quick: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run_all(arguments))
}

async fn run_all(arguments: &Arguments) -> Result<()> {
    let seconds = if arguments.quick { 1.0 } else { arguments.seconds };
    let time = Duration::from_secs_f64(seconds);
    let of_side = |side: u32| -> Result<Vec<_>> {
        let mut shown = pictures::load(&arguments.pictures, side)?;
        shown.truncate(PICTURES);
        Ok(shown)
    };
    let (small, whole) = (of_side(SMALL_SIDE)?, of_side(pictures::SIDE)?);
    let jpeg = client::jpegs(&whole)?;
    let payloads = [
        ("raw RGB8, 82x82", SMALL_SIDE, small.iter().map(client::raw).collect::<Vec<_>>()),
        ("raw RGB8, 224x224", pictures::SIDE, whole.iter().map(client::raw).collect()),
        ("JPEG, 224x224", pictures::SIDE, jpeg),
    ];
    let mut report = Report::new("edge");
    let metrics_microseconds = metrics_cost()?;
    let mut rows = Vec::new();
    for (name, side, pictures) in payloads {
        let bytes = pictures.iter().map(Bytes::len).sum::<usize>() / pictures.len();
        let folder = tempfile::tempdir_in(".bench")?;
        Heads::publish(folder.path(), identity(), WIDTHS, side, 1)?;
        let server = ServerProcess::start(command(folder.path())?)?;
        let payloads: Vec<Payload> =
            pictures.into_iter().map(|picture| Payload::new(&[task_name(0)], picture)).collect();
        let requests: Requests =
            Arc::new(move |number| payloads[number as usize % payloads.len()].clone());
        for clients in CLIENTS {
            progress(&format!("{name}, {clients} clients"));
            let (cpu, count) = (server.cpu_seconds()?, server.metric(COUNT)?);
            let outcome = closed_loop(server.grpc, clients, time, &requests).await?;
            let (cpu, count) = (server.cpu_seconds()? - cpu, server.metric(COUNT)? - count);
            ensure!(outcome.failures() == 0, "requests failed: {:?}", outcome.codes());
            let (microseconds, times) = (1e6 * cpu / count, outcome.verdict_times()?);
            rows.push(vec![
                name.to_owned(),
                format!("{:.0} KB", bytes as f64 / 1e3),
                clients.to_string(),
                format!("{:.0}", outcome.throughput()),
                figures(microseconds),
                figures(times.quantile(0.5)),
                figures(times.quantile(0.99)),
                format!("{:.2}", outcome.client_processors),
            ]);
            if (side, clients) == (SMALL_SIDE, BAR) {
                let bar = "server's CPU a request, 20 KB raw RGB8, 16 clients, microseconds";
                report.bar(bar, Required::AtMost(100.0), microseconds);
                let share = 100.0 * metrics_microseconds / microseconds;
                report.bar("metrics, per cent of that", Required::AtMost(1.0), share);
            }
        }
    }
    let header = [
        "picture",
        "payload",
        "clients",
        "requests/s",
        "server's CPU a request, us",
        "p50, ms",
        "p99, ms",
        "client's processors",
    ];
    report.table("The edge alone: the base returns at once", &header, rows);
    let rows = vec![vec![format!("{metrics_microseconds:.2}")]];
    report.table("Every metrics call that one request makes, timed alone", &["us a request"], rows);
    report.finish()
}

/// Returns microseconds of metrics calls for a request alone in its batch, best of many trials.
///
/// Metrics cannot be turned off, so their calls are timed by themselves.
fn metrics_cost() -> Result<f64> {
    const TRIALS: usize = 100;
    const REQUESTS: u32 = 2_000;
    let metrics = Metrics::new()?;
    let counters = Arc::new(TaskCounters::new("task-0000", ["class-0", "class-1"]));
    let trial = |_| {
        // As the server's timer does, outside any request.
        metrics.upkeep();
        let begun = Instant::now();
        for number in 0..REQUESTS {
            let took = Duration::from_micros(10 * u64::from(number));
            observe_request(&metrics, &counters, black_box(took));
        }
        begun.elapsed().as_secs_f64() * 1e6 / f64::from(REQUESTS)
    };
    Ok((0..TRIALS).map(trial).fold(f64::INFINITY, f64::min))
}

fn observe_request(metrics: &Metrics, counters: &Arc<TaskCounters>, took: Duration) {
    for images in [1, 0] {
        metrics.queue_images.set(images);
        metrics.queue_bytes.set(20_000 * images);
    }
    for stage in [Stage::Decode, Stage::Queue, Stage::Forward, Stage::Head] {
        metrics.observe_stage(stage, took);
    }
    metrics.batch_images.record(1.0);
    metrics.batch_tasks.record(1.0);
    metrics.count_verdict(counters, 1, DecisionLabel::Pass);
    metrics.count_request(Rpc::Classify, Some(counters), Code::Ok);
    metrics.observe_request(Rpc::Classify, took);
}
