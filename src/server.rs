//! Starts the parts of the server in order, and shuts them down again.

use std::{
    future::Future,
    io,
    mem::Discriminant,
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use tokio::{
    net::TcpListener,
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{codec::CompressionEncoding, service::Routes};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    admin,
    base::{Base, BaseError},
    engine::{Engine, EngineConfig},
    grpc::{self, CLASSIFIER_SERVICE, GrpcLimits, ServerState, Suggestions, VerdictLog},
    health::{Cause, Health, HealthBounds, Phase, reasons},
    metrics::{self, DroppedLines, Metrics},
    registry::Registry,
    reload::{Reconciler, Reloader},
    store::HeadStore,
};

/// How long connections may take to deliver the last answers; a health watcher would stay forever.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How often gRPC health is brought up to date.
const HEALTH_INTERVAL: Duration = Duration::from_millis(100);

/// How often a lost device is tried.
const TRIAL_INTERVAL: Duration = Duration::from_secs(1);

/// The service names that gRPC health reports.
const HEALTH_NAMES: [&str; 2] = ["", CLASSIFIER_SERVICE];

#[derive(Debug, Clone)]
pub struct ServerConfig {
    pub listen: SocketAddr,
    pub admin: SocketAddr,
    pub heads: HeadStore,
    pub rescan: Duration,
    /// How long accepted requests may take once the server stops.
    pub drain: Duration,
    pub engine: EngineConfig,
    pub health: HealthBounds,
    pub grpc: GrpcLimits,
    pub verdict_log: VerdictLog,
    /// The log lines that the metrics show as dropped.
    pub dropped_lines: DroppedLines,
}

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot set up metrics: {0}")]
    Metrics(#[from] metrics::BuildError),
    #[error("cannot load the base: {0}")]
    LoadBase(Box<dyn std::error::Error + Send + Sync>),
    #[error("cannot warm up the base: {0}")]
    Warm(#[from] BaseError),
    #[error("{what} failed: {source}")]
    Ended { what: &'static str, source: io::Error },
}

/// A running server.
///
/// Guarantees:
/// 1. It is ready once the base is warm and the first scan of the heads is installed, while the
///    device and the reload thread work; load or a bad head never makes it unready.
/// 2. Once told to stop, it reports that it drains, takes no new request, and answers every
///    accepted one within the drain time.
#[derive(Debug)]
pub struct Server {
    pub grpc_address: SocketAddr,
    pub admin_address: SocketAddr,
    state: Arc<ServerState>,
    reporter: HealthReporter,
    health_task: JoinHandle<()>,
    phase: Arc<watch::Sender<Phase>>,
    reloader: Arc<Mutex<Option<Reloader>>>,
    grpc: JoinHandle<io::Result<()>>,
    admin: JoinHandle<io::Result<()>>,
    upkeep: JoinHandle<()>,
    start_up: oneshot::Receiver<Result<(), ServerError>>,
    drain: Duration,
}

impl Server {
    /// Opens both ports at once and loads the base on a separate thread.
    ///
    /// # Errors
    /// If a port is taken. Later failures are returned by [`run`](Self::run).
    pub async fn start<E>(
        config: ServerConfig,
        load_base: impl FnOnce(&Metrics) -> Result<Box<dyn Base>, E> + Send + 'static,
    ) -> Result<Self, ServerError>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (listener, grpc_address) = bind(config.listen).await?;
        let (admin_listener, admin_address) = bind(config.admin).await?;
        let metrics = Metrics::new()?.with_dropped_lines(config.dropped_lines.clone());
        let (registry, metrics) = (Arc::new(Registry::default()), Arc::new(metrics));
        let draining = CancellationToken::new();
        let state = Arc::new(ServerState {
            registry,
            metrics,
            engine: OnceLock::new(),
            draining: draining.clone(),
            streams: TaskTracker::new(),
            verdict_log: config.verdict_log,
            suggestions: Suggestions::default(),
        });
        let (phase, phase_seen) = watch::channel(Phase::Starting);
        let phase = Arc::new(phase);

        let health = Arc::new(Health {
            bounds: config.health,
            rescan: config.rescan,
            phase: phase_seen,
            state: state.clone(),
            reload: OnceLock::new(),
        });
        let (reporter, health_service) = tonic_health::server::health_reporter();
        report(&reporter, ServingStatus::NotServing).await;
        let health_task = tokio::spawn(keep_reporting(reporter.clone(), health.clone()));
        let grpc = tokio::spawn({
            let shutdown = draining.clone().cancelled_owned();
            // A client that compresses, compresses these calls too.
            let health_service = health_service.accept_compressed(CompressionEncoding::Gzip);
            let routes = Routes::new(health_service);
            let state = state.clone();
            async move { grpc::serve(listener, state, config.grpc, routes, shutdown).await }
        });
        let routes = admin::routes(health.clone());
        let admin = tokio::spawn(async move { axum::serve(admin_listener, routes).await });
        let upkeep = tokio::spawn(admin::keep_up(state.metrics.clone(), Metrics::UPKEEP_INTERVAL));

        let reloader = Arc::new(Mutex::new(None));
        let (started, start_up) = oneshot::channel();
        let drain = config.drain;
        let work = {
            let (state, phase, reloader) = (state.clone(), phase.clone(), reloader.clone());
            let health = health.clone();
            move || {
                let base =
                    load_base(&state.metrics).map_err(|error| ServerError::LoadBase(error.into()));
                let result = base.and_then(|base| {
                    let running = start_serving(base, &config, &health, phase)?;
                    *reloader.lock().unwrap_or_else(PoisonError::into_inner) = Some(running);
                    Ok(())
                });
                // Fails if the server was dropped meanwhile.
                let _dropped = started.send(result);
            }
        };
        let named = std::thread::Builder::new().name("start-up".to_owned());
        named.spawn(work).map_err(|source| ServerError::Ended { what: "start-up", source })?;
        Ok(Self {
            grpc_address,
            admin_address,
            state,
            reporter,
            health_task,
            phase,
            reloader,
            grpc,
            admin,
            upkeep,
            start_up,
            drain,
        })
    }

    /// Serves until `stop` completes, then drains and shuts down.
    ///
    /// # Errors
    /// If the base cannot be loaded or a listener fails.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), ServerError> {
        tokio::pin!(stop);
        let mut started = false;
        let result = loop {
            tokio::select! {
                () = &mut stop => break Ok(()),
                result = &mut self.start_up, if !started => match result {
                    Ok(Ok(())) => started = true,
                    Ok(Err(error)) => break Err(error),
                    Err(_) => break Err(ended("the start-up thread", Ok(Ok(())))),
                },
                result = &mut self.grpc => break Err(ended("the gRPC listener", result)),
                result = &mut self.admin => break Err(ended("the admin listener", result)),
            }
        };
        self.drain().await;
        result
    }

    /// Returns what scans the folder of heads at once when it is called.
    ///
    /// It does nothing before the first scan and after the server stopped.
    pub fn rescanner(&self) -> impl Fn() + Send + Sync + 'static {
        let reloader = self.reloader.clone();
        move || {
            if let Some(reloader) = &*reloader.lock().unwrap_or_else(PoisonError::into_inner) {
                reloader.scan_now();
            }
        }
    }

    /// Waits until the server is ready.
    pub async fn ready(&self) {
        let mut phase = self.phase.subscribe();
        // The sender lives in self, so waiting cannot fail.
        let _still_there = phase.wait_for(|phase| *phase == Phase::Ready).await;
    }

    async fn drain(self) {
        let deadline = Instant::now() + self.drain;
        self.phase.send_replace(Phase::Draining);
        // It ends with the phase; from then on nothing else reports.
        self.health_task.abort();
        let _aborted = self.health_task.await;
        report(&self.reporter, ServingStatus::NotServing).await;
        tracing::info!(drain = ?self.drain, "stopping, accepted requests are still answered");
        let engine = self.state.engine.get().cloned();
        if let Some(engine) = &engine {
            engine.stop_accepting();
        }
        self.state.draining.cancel();
        let answered = async {
            self.state.streams.close();
            self.state.streams.wait().await;
            if let Some(engine) = &engine {
                engine.drained().await;
            }
        };
        if timeout_at(deadline, answered).await.is_err() {
            tracing::warn!("drain time exceeded, queued requests are answered UNAVAILABLE");
        }
        let (reloader, admin, upkeep) = (self.reloader, self.admin, self.upkeep);
        let ending = tokio::task::spawn_blocking(move || {
            // Its end is not waited for under the lock, which a rescan takes.
            let reloader = reloader.lock().unwrap_or_else(PoisonError::into_inner).take();
            // A scan may take long, so what is queued is answered first.
            if let Some(reloader) = &reloader {
                reloader.stop();
            }
            if let Some(engine) = engine {
                engine.shut_down();
            }
            drop(reloader);
        });
        let close_deadline = deadline
            .min(Instant::now() + CLOSE_TIMEOUT)
            .max(Instant::now() + Duration::from_millis(200));
        let abort = self.grpc.abort_handle();
        if timeout_at(close_deadline, self.grpc).await.is_err() {
            tracing::info!("closing connections that are still open");
            abort.abort();
        }
        admin.abort();
        upkeep.abort();
        if timeout_at(close_deadline, ending).await.is_err() {
            tracing::warn!("a forward pass did not end, exiting without it");
        }
        tracing::info!("stopped");
    }
}

/// Starts the engine and the reloader; the server is ready once the first scan is installed.
fn start_serving(
    base: Box<dyn Base>,
    config: &ServerConfig,
    health: &Health,
    phase: Arc<watch::Sender<Phase>>,
) -> Result<Reloader, ServerError> {
    let state = &health.state;
    let engine = Engine::start(base, &config.engine, state.metrics.clone())?;
    let reconciler = Reconciler::new(
        config.heads.clone(),
        state.registry.clone(),
        engine.clone(),
        state.metrics.clone(),
    );
    // Set only here.
    let _first = state.engine.set(engine);
    let _first = health.reload.set(reconciler.progress().clone());
    let after_scan = move |reconciler: &Reconciler| {
        if reconciler.first_scan_done() {
            phase.send_if_modified(|phase| {
                let becomes_ready = *phase == Phase::Starting;
                if becomes_ready {
                    *phase = Phase::Ready;
                }
                becomes_ready
            });
        }
    };
    Reloader::start(reconciler, config.rescan, after_scan)
        .map_err(|source| ServerError::Ended { what: "starting the reload thread", source })
}

async fn report(reporter: &HealthReporter, status: ServingStatus) {
    for name in HEALTH_NAMES {
        reporter.set_service_status(name, status).await;
    }
}

/// Reports to gRPC health whether the server is ready, until it drains.
async fn keep_reporting(reporter: HealthReporter, health: Arc<Health>) {
    let mut phase = health.phase.clone();
    let mut timer = tokio::time::interval(HEALTH_INTERVAL);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut tried_at = None::<Instant>;
    let mut reported = None::<Vec<Discriminant<Cause>>>;
    loop {
        tokio::select! {
            _ = timer.tick() => {}
            changed = phase.changed() => if changed.is_err() { return },
        }
        match *phase.borrow_and_update() {
            Phase::Starting => continue,
            Phase::Ready => {}
            Phase::Draining => return,
        }
        let causes = health.causes(Instant::now().into());
        // The ages within the causes grow; that is no news.
        let kinds: Vec<_> = causes.iter().map(std::mem::discriminant).collect();
        if reported.as_ref() != Some(&kinds) {
            if causes.is_empty() {
                report(&reporter, ServingStatus::Serving).await;
                tracing::info!("ready");
            } else {
                report(&reporter, ServingStatus::NotServing).await;
                tracing::error!(reason = reasons(causes.iter().copied()), "not ready");
            }
            reported = Some(kinds);
        }
        if tried_at.is_none_or(|at| at.elapsed() >= TRIAL_INTERVAL) {
            health.try_lost_device(&causes);
            tried_at = Some(Instant::now());
        }
    }
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServerError> {
    let listen = |source| ServerError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(listen)?;
    let bound = listener.local_addr().map_err(listen)?;
    Ok((listener, bound))
}

fn ended(
    what: &'static str,
    result: Result<io::Result<()>, tokio::task::JoinError>,
) -> ServerError {
    let source = match result {
        Ok(Ok(())) => io::Error::other("it ended unexpectedly"),
        Ok(Err(error)) => error,
        Err(error) => io::Error::other(error),
    };
    ServerError::Ended { what, source }
}
