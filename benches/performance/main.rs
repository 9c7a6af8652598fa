//! Performance: the bare engine against other engines, the server against the bare engine, the edge
//! alone, and an honest client beside hostile ones.
//!
//! Run by `make bench-engine`, `make bench-serve`, `make bench-edge` and `make bench-abuse`; the
//! figures are in `docs/performance.md`.

mod abuse;
mod base;
mod client;
mod edge;
mod engine;
mod heads;
mod load;
mod null_server;
mod pictures;
mod process;
mod report;
mod serve;
mod worker;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

#[derive(Parser, Debug)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Flag that `cargo bench` adds
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Compare the bare engine with eager PyTorch, ONNX Runtime and OpenVINO
    Engine(engine::Arguments),
    /// Measure throughput and latency through gRPC against the bare engine
    Serve(serve::Arguments),
    /// Measure requests a second and processor time a request of the edge alone
    Edge(edge::Arguments),
    /// Measure what hostile clients cost an honest one
    Abuse(abuse::Arguments),
    /// Run Turret's engine as a worker; started by `engine` and `serve`
    #[command(hide = true)]
    EngineWorker(EngineWorker),
    /// Run a server whose base returns at once; started by `edge`
    #[command(hide = true)]
    NullServer(null_server::Arguments),
    /// Run a server that discards everything; started by `abuse`
    #[command(hide = true)]
    Sink,
    /// Run hostile clients; started by `abuse`
    #[command(hide = true)]
    Abuser(abuse::abuser::Arguments),
}

#[derive(Args, Debug)]
struct EngineWorker {
    #[arg(long)]
    base: PathBuf,
    #[arg(long)]
    precision: String,
    #[arg(long)]
    threads: usize,
    #[arg(long)]
    pictures: PathBuf,
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Engine(arguments) => engine::run(&arguments),
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Edge(arguments) => edge::run(&arguments),
        Command::Abuse(arguments) => abuse::run(&arguments),
        Command::Sink => abuse::sink::run(),
        Command::Abuser(arguments) => abuse::abuser::run(&arguments),
        Command::NullServer(arguments) => null_server::run(arguments),
        Command::EngineWorker(EngineWorker { base, precision, threads, pictures }) => {
            let mut base = base::open_base(&base, &precision, threads)?;
            worker::answer_questions(base.as_mut(), &pictures::load(&pictures, pictures::SIDE)?)
        }
    }
}
