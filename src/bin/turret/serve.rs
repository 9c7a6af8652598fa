//! `turret serve`: runs the server until SIGTERM or SIGINT.

use std::process::ExitCode;

use anyhow::Context;
use clap::ArgMatches;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;
use turret::{
    config::{LogFormat, ServeConfig, processors},
    metrics::Metrics,
    server::Server,
};

use crate::{USAGE, load_base::BaseChoice, output::print_error};

pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    let config = match ServeConfig::from_matches(matches) {
        Ok(config) => config,
        Err(mistakes) => {
            print_error(&mistakes.into());
            return ExitCode::from(USAGE);
        }
    };
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if tracing::enabled!(tracing::Level::ERROR) {
                tracing::error!(error = %format_args!("{error:#}"), "server failed");
            } else {
                // A filter may silence the log, never the reason of an end.
                print_error(&error);
            }
            ExitCode::FAILURE
        }
    }
}

fn serve(config: ServeConfig) -> anyhow::Result<()> {
    start_log(&config)?;
    let ServeConfig { base, device, precision, threads, max_batch, mut server, .. } = config;
    let base = BaseChoice { path: base, device, precision, threads };
    server.engine.batch_sizes = max_batch.sizes(base.resolve_device()?.is_cuda());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(processors().clamp(2, 8))
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let served = runtime.block_on(async {
        // Before the base is loaded, so that a signal during start-up stops the server cleanly.
        let stop = stopped(signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let server = Server::start(server, move |metrics: &Metrics| base.load(metrics)).await?;
        tracing::info!(grpc = %server.grpc_address, admin = %server.admin_address, "listening");
        Ok(server.run(stop).await?)
    });
    // A forward pass that hangs beyond the drain time must not keep the process alive.
    runtime.shutdown_background();
    served
}

fn start_log(config: &ServeConfig) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log)
        .with_context(|| format!("invalid --log {:?}", config.log))?;
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours);
    let started = match config.log_format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("cannot start logging: {error}"))
}

async fn stopped(mut terminate: Signal, mut interrupt: Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
