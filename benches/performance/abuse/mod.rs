//! `make bench-abuse`: what hostile clients cost an honest one, and how much memory they take.
//!
//! The same abuse goes by turns to the server and to a sink that accepts everything and discards
//! it. Its processor time hurts the honest client in both cases; what it costs beyond that is the
//! server's fault.

pub(crate) mod abuser;
pub(crate) mod sink;

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use crate::{
    client::{self, Payload},
    engine::progress,
    heads::{Heads, task_name},
    load::{OpenLoop, Outcome, Requests, Times},
    null_server::{WIDTHS, command, identity},
    pictures,
    process::ServerProcess,
    report::{Report, Required, figures, median_ratio},
};
use abuser::Abuse;

/// Requests a second of the honest client: far from what the server could answer.
const RATE: f64 = 40.0;
const PICTURES: usize = 32;

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[arg(long, default_value = pictures::FOLDER)]
    pictures: PathBuf,
    /// Length of a turn
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Trial run: one round of three seconds
    #[arg(long)]
    quick: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run_all(arguments))
}

async fn run_all(arguments: &Arguments) -> Result<()> {
    let (rounds, seconds) =
        if arguments.quick { (1, 3.0) } else { (arguments.rounds, arguments.seconds) };
    let time = Duration::from_secs_f64(seconds);
    let mut shown = pictures::load(&arguments.pictures, pictures::SIDE)?;
    shown.truncate(PICTURES);
    let jpeg = client::jpegs(&shown)?;
    let payloads: Vec<Payload> =
        jpeg.into_iter().map(|picture| Payload::new(&[task_name(0)], picture)).collect();
    let requests: Requests =
        Arc::new(move |number| payloads[number as usize % payloads.len()].clone());
    let folder = tempfile::tempdir_in(".bench")?;
    Heads::publish(folder.path(), identity(), WIDTHS, pictures::SIDE, 1)?;

    let mut report = Report::new("abuse");
    let mut rows = Vec::new();
    let mut largest_mb: f64 = 0.0;
    for abuse in Abuse::ALL {
        let server = ServerProcess::start(command(folder.path())?)?;
        let sink = ServerProcess::start(sink::command()?)?;
        let (mut at_server, mut at_sink) = (Vec::new(), Vec::new());
        let mut peak_mb = 0.0;
        for round in 0..rounds {
            progress(&format!("{}, round {}", abuse.name(), round + 1));
            let honest = OpenLoop { rate: RATE, time, seed: round as u64, timeout: None };
            let abusers = Abusers::start(abuse, sink.grpc)?;
            at_sink.push(honest.run(server.grpc, &requests).await?);
            drop(abusers);
            let abusers = Abusers::start(abuse, server.grpc)?;
            at_server.push(honest.run(server.grpc, &requests).await?);
            peak_mb = server.peak_resident_mb()?;
            drop(abusers);
        }
        for outcome in at_server.iter().chain(&at_sink) {
            ensure!(
                outcome.verdicts() > 0,
                "the honest client got no verdict: {:?}",
                outcome.codes()
            );
        }
        largest_mb = largest_mb.max(peak_mb);
        let p99 = |outcomes: &[Outcome]| -> Result<Vec<f64>> {
            let of_one =
                |outcome| Ok(Times::of_verdicts(std::slice::from_ref(outcome))?.quantile(0.99));
            outcomes.iter().map(of_one).collect()
        };
        let (server_p99, sink_p99) = (p99(&at_server)?, p99(&at_sink)?);
        let ratio = median_ratio(&server_p99, &sink_p99);
        let failures: usize = at_server.iter().map(Outcome::failures).sum();
        rows.push(vec![
            abuse.name().to_owned(),
            figures(crate::report::median(&server_p99)),
            figures(crate::report::median(&sink_p99)),
            format!("{ratio:.2}"),
            failures.to_string(),
            format!("{peak_mb:.0}"),
        ]);
        let bar =
            format!("{}: the honest client's p99 beside the server's to the sink's", abuse.name());
        report.bar(bar, Required::AtMost(1.2), ratio);
        report.bar(
            format!("{}: the honest client's failures", abuse.name()),
            Required::AtMost(0.0),
            failures as f64,
        );
    }
    let header =
        ["abuse", "p99 at the server, ms", "at the sink, ms", "ratio", "failures", "peak, MB"];
    report.table("An honest client of 40 requests a second beside abuse at nice 19", &header, rows);
    report.bar("the server's peak resident memory, MB", Required::AtMost(BOUND_MB), largest_mb);
    report.finish()
}

/// What docs/limits.md adds up to with the default settings, 5.25 GiB, and the program itself.
const BOUND_MB: f64 = 5_800.0;

/// An abusing process, at the lowest priority; killed when dropped.
#[derive(Debug)]
struct Abusers(Child);

impl Abusers {
    fn start(abuse: Abuse, target: SocketAddr) -> Result<Self> {
        let mut command = Command::new("nice");
        command.args(["-n", "19"]).arg(std::env::current_exe()?).arg("abuser");
        command.args(["--abuse", abuse.name(), "--target", &target.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Ok(Self(command.spawn().context("cannot start nice")?))
    }
}

impl Drop for Abusers {
    fn drop(&mut self) {
        // It may have ended by itself; either way it must not outlive its turn.
        let _ended = self.0.kill().and_then(|()| self.0.wait());
    }
}
