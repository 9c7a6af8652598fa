//! `make bench-serve`: the server through gRPC against its own bare engine in the same run.
//!
//! The bare engine and the server take turns; they never compute at the same time.

mod cancelled;
mod closed;
mod fairness;
mod memory;
mod open;
mod swaps;
mod tasks;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Result;
use bytes::Bytes;
use clap::Args;
use turret::{base::BaseWeights, config::processors};

use crate::{
    base,
    client::{self, Connection, Payload, decode},
    engine::{own_worker, progress},
    heads::{Heads, task_name},
    load::Requests,
    pictures,
    process::ServerProcess,
    report::Report,
    worker::Worker,
};

const TASKS: usize = 1000;
/// Number of different pictures in requests.
const PICTURES: usize = 32;

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Base file with activation ranges
    #[arg(long, default_value = base::FILE)]
    base: PathBuf,
    #[arg(long, default_value = "fp32")]
    precision: String,
    #[arg(long, default_value = pictures::FOLDER)]
    pictures: PathBuf,
    /// Threads of a forward pass
    #[arg(long, default_value_t = processors())]
    threads: usize,
    /// Length of a measurement
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// Rounds, in each of which measurements to compare take turns
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Swaps over which memory must not grow
    #[arg(long, default_value_t = 20_000)]
    swaps: usize,
    /// Length of a final full load over which memory must not grow; 0 for none
    #[arg(long, default_value_t = 0.0)]
    soak_seconds: f64,
    /// Trial run: one round of one second, few requests and swaps
    #[arg(long)]
    quick: bool,
}

/// State that all parts of the benchmark share.
#[derive(Debug)]
struct Bench {
    server: ServerProcess,
    bare: Worker,
    heads: Heads,
    jpeg: Vec<Bytes>,
    raw: Vec<Bytes>,
    report: Report,
    rounds: usize,
    time: Duration,
    /// Number of requests behind a quantile, as a share of the usual one.
    samples: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Raw,
    Jpeg,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    // One thread: the client must leave the processors to the server.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run_all(arguments))
}

async fn run_all(arguments: &Arguments) -> Result<()> {
    let folder = tempfile::tempdir_in(".bench")?;
    let mut bench = Bench::start(arguments, folder.path()).await?;
    let swaps = if arguments.quick { 2000 } else { arguments.swaps };
    let at_rest = bench.server.resident_mb()?;
    let capacity = closed::measure(&mut bench).await?;
    tasks::measure(&mut bench).await?;
    let after_load = bench.server.resident_mb()?;
    swaps::measure(&mut bench).await?;
    open::measure(&mut bench, capacity).await?;
    cancelled::measure(&mut bench, capacity).await?;
    fairness::measure(&mut bench, capacity).await?;
    let soak = Duration::from_secs_f64(arguments.soak_seconds);
    memory::measure(&mut bench, at_rest, after_load, swaps, soak).await?;
    bench.report.finish()
}

impl Bench {
    async fn start(arguments: &Arguments, root: &std::path::Path) -> Result<Self> {
        let weights = BaseWeights::load(&arguments.base)?;
        progress(&format!("publishing {TASKS} heads"));
        let widths = weights.architecture().widths();
        let heads = Heads::publish(root, weights.identity(), widths, pictures::SIDE, TASKS)?;
        drop(weights);
        let mut shown = pictures::load(&arguments.pictures, pictures::SIDE)?;
        shown.truncate(PICTURES);
        let raw = shown.iter().map(client::raw).collect();
        let jpeg = client::jpegs(&shown)?;
        progress("starting the bare engine and the server");
        let Arguments { base, precision, threads, pictures, .. } = arguments;
        let bare = Worker::start(&mut own_worker(base, precision, *threads, pictures)?)?;
        let server = ServerProcess::turret(base, root, precision, *threads)?;
        let report = Report::new(format!("serve-{precision}"));
        let (rounds, seconds, samples) = match arguments.quick {
            true => (1, 1.0, 0.1),
            false => (arguments.rounds, arguments.seconds, 1.0),
        };
        let time = Duration::from_secs_f64(seconds);
        let bench = Self { server, bare, heads, jpeg, raw, report, rounds, time, samples };
        bench.check_an_answer().await?;
        Ok(bench)
    }

    /// Checks one answer before anything is measured.
    async fn check_an_answer(&self) -> Result<()> {
        let tasks = [task_name(0), task_name(1)];
        let payload = Payload::new(&tasks, self.raw[0].clone());
        let connection = Connection::open(self.server.grpc).await?;
        let (code, bytes) = connection.call(&payload, None).await?;
        anyhow::ensure!(code == tonic::Code::Ok, "the server answered {code:?}");
        let verdicts = decode(&bytes)?.verdicts;
        let answered: Vec<&str> = verdicts.iter().map(|verdict| verdict.task.as_str()).collect();
        anyhow::ensure!(answered == tasks, "the server answered for {answered:?}");
        Ok(())
    }

    fn pictures(&self, form: Form) -> &[Bytes] {
        match form {
            Form::Raw => &self.raw,
            Form::Jpeg => &self.jpeg,
        }
    }

    /// Returns requests for one task each, the tasks in turn.
    fn requests(&self, form: Form, tasks: std::ops::Range<usize>) -> Requests {
        let pictures = self.pictures(form).to_vec();
        let tasks: Vec<[String; 1]> = tasks.map(|number| [task_name(number)]).collect();
        Arc::new(move |number| {
            let number = number as usize;
            Payload::new(&tasks[number % tasks.len()], pictures[number % pictures.len()].clone())
        })
    }

    /// Returns requests that each ask for the same tasks.
    fn requests_for_all(&self, form: Form, tasks: usize) -> Requests {
        let names: Vec<String> = (0..tasks).map(task_name).collect();
        let payloads: Vec<Payload> = self
            .pictures(form)
            .iter()
            .map(|picture| Payload::new(&names, picture.clone()))
            .collect();
        Arc::new(move |number| payloads[number as usize % payloads.len()].clone())
    }

    /// Measures the bare engine's images a second at the better of two batch sizes.
    fn bare_speed(&mut self) -> Result<f64> {
        let time = self.time / 4;
        Ok(self.bare.run(8, time)?.max(self.bare.run(32, time)?))
    }
}

impl Form {
    const ALL: [Self; 2] = [Self::Raw, Self::Jpeg];

    const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw RGB8",
            Self::Jpeg => "JPEG",
        }
    }
}
