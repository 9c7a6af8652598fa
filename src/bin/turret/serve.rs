//! `turret serve`: runs the server until SIGTERM or SIGINT, and scans the heads on SIGHUP.

use std::{process::ExitCode, time::Duration};

use anyhow::Context;
use clap::ArgMatches;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;
use turret::{
    config::{ServeConfig, processors},
    log::{self, LogWriter},
    metrics::Metrics,
    server::Server,
};
use turret_client::cli::printing::{error_text, print_error, with_causes};

use crate::{PROGRAM, USAGE, leave::leave, load_base::BaseChoice};

/// How long the end of the process waits for the last lines of the log.
const LAST_LINES: Duration = Duration::from_secs(1);

pub(crate) fn run(matches: &ArgMatches) -> ExitCode {
    let config = match ServeConfig::from_matches(matches) {
        Ok(config) => config,
        Err(mistakes) => {
            print_error(PROGRAM, &mistakes.into());
            return ExitCode::from(USAGE);
        }
    };
    let log = match start_log(&config) {
        Ok(log) => log,
        Err(error) => {
            print_error(PROGRAM, &error);
            return ExitCode::FAILURE;
        }
    };
    let code = match serve(config, &log) {
        Ok(()) => 0,
        Err(error) => {
            if tracing::enabled!(tracing::Level::ERROR) {
                tracing::error!(error = %with_causes(&error), "server failed");
            } else {
                // A filter may silence the log, never the reason of an end.
                log.give(format!("{}\n", error_text(PROGRAM, &error)).as_bytes());
            }
            1
        }
    };
    log.flush(LAST_LINES);
    leave(code)
}

fn serve(config: ServeConfig, log: &LogWriter) -> anyhow::Result<()> {
    let ServeConfig { base, device, precision, threads, max_batch, mut server, .. } = config;
    let base = BaseChoice { path: base, device, precision, threads };
    server.engine.batch_sizes = max_batch.sizes(base.resolve_device()?.is_cuda());
    server.dropped_lines = log.dropped();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(processors().clamp(2, 8))
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let served = runtime.block_on(async {
        // Before the base is loaded, so that no signal during start-up ends the process.
        let stop = stopped(signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let hang_up = signal(SignalKind::hangup())?;
        let server = Server::start(server, move |metrics: &Metrics| base.load(metrics)).await?;
        tracing::info!(grpc = %server.grpc_address, admin = %server.admin_address, "listening");
        tokio::spawn(rescan_at_each(hang_up, server.rescanner()));
        Ok(server.run(stop).await?)
    });
    // A forward pass that hangs beyond the drain time must not keep the process alive.
    runtime.shutdown_background();
    served
}

fn start_log(config: &ServeConfig) -> anyhow::Result<LogWriter> {
    let filter = EnvFilter::try_new(&config.log)
        .with_context(|| format!("invalid --log {:?}", config.log))?;
    Ok(log::start(filter, config.log_format)?)
}

async fn stopped(mut terminate: Signal, mut interrupt: Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

async fn rescan_at_each(mut hang_up: Signal, rescan: impl Fn()) {
    while hang_up.recv().await.is_some() {
        tracing::info!("SIGHUP, scanning the heads");
        rescan();
    }
}
