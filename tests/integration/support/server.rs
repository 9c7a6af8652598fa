//! A server in the test's process, on free ports.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};
use tonic::transport::Channel;
use turret::{
    base::Base,
    engine::EngineConfig,
    grpc::{
        GrpcLimits, VerdictLog,
        proto::{self, classifier_client::ClassifierClient, heads_client::HeadsClient},
    },
    health::HealthBounds,
    metrics::DroppedLines,
    server::{Server, ServerConfig, ServerError},
    store::{Files, HeadStore},
};

use super::{FakeBase, fake_base::Control, within_patience};

pub(crate) type PlainClient = hyper_util::client::legacy::Client<
    hyper_util::client::legacy::connect::HttpConnector,
    tonic::body::Body,
>;

pub(crate) struct Builder {
    base: Option<Box<dyn Base>>,
    config: ServerConfig,
    folder: TempDir,
}

pub(crate) struct TestServer {
    pub(crate) grpc: SocketAddr,
    pub(crate) admin: SocketAddr,
    /// The folder of heads.
    pub(crate) heads: PathBuf,
    rescan: Box<dyn Fn() + Send + Sync>,
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<Result<(), ServerError>>>,
    folder: TempDir,
}

impl TestServer {
    pub(crate) fn builder() -> Builder {
        let folder = tempfile::tempdir().unwrap();
        let heads = folder.path().join("heads");
        fs_err::create_dir(&heads).unwrap();
        let anywhere = "127.0.0.1:0".parse().unwrap();
        let config = ServerConfig {
            listen: anywhere,
            admin: anywhere,
            heads: HeadStore::new(heads),
            // Long, so that heads are found by file events unless a test sets it.
            rescan: Duration::from_secs(3600),
            drain: Duration::from_secs(20),
            engine: EngineConfig::default(),
            health: HealthBounds::default(),
            grpc: GrpcLimits::default(),
            verdict_log: VerdictLog::default(),
            dropped_lines: DroppedLines::default(),
        };
        Builder { base: None, config, folder }
    }

    pub(crate) async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.grpc)).unwrap().connect().await.unwrap()
    }

    pub(crate) async fn classifier(&self) -> ClassifierClient<Channel> {
        ClassifierClient::new(self.channel().await)
    }

    /// Returns a client that leaves deadlines to the server and closes its connection on drop.
    ///
    /// tonic's own channel does neither.
    pub(crate) fn plain_classifier(&self) -> ClassifierClient<PlainClient> {
        let client =
            hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
                .http2_only(true)
                .build_http();
        ClassifierClient::with_origin(client, format!("http://{}", self.grpc).parse().unwrap())
    }

    pub(crate) async fn list(&self, task: &str) -> Vec<proto::Head> {
        let request = proto::ListHeadsRequest { task: task.to_owned(), ..Default::default() };
        let mut client = HeadsClient::new(self.channel().await);
        client.list_heads(request).await.unwrap().into_inner().heads
    }

    /// Returns the head once it is in this state.
    pub(crate) async fn wait_for(
        &self,
        task: &str,
        version: u64,
        state: proto::HeadState,
    ) -> proto::Head {
        let mut client = HeadsClient::new(self.channel().await);
        let mut events =
            client.watch_heads(proto::WatchHeadsRequest {}).await.unwrap().into_inner();
        let found = async {
            while let Some(event) = events.message().await.unwrap() {
                let head = event.head.unwrap();
                if (head.task.as_str(), head.version, head.state) == (task, version, state.into()) {
                    return head;
                }
            }
            panic!("the watch ended before {task} {version} was {state:?}");
        };
        within_patience(&format!("{task} version {version} to be {state:?}"), found).await
    }

    pub(crate) async fn wait_for_serving(&self, task: &str, version: u64) {
        self.wait_for(task, version, proto::HeadState::Serving).await;
    }

    /// Returns status and body of a page of the admin port.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        get(self.admin, path).await
    }

    /// Returns the value of a series, named as Prometheus writes it.
    pub(crate) async fn metric(&self, series: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map(|value| value.parse().unwrap())
    }

    /// Tells the server to stop, as SIGTERM does, and returns its task.
    pub(crate) fn stop(&mut self) -> JoinHandle<Result<(), ServerError>> {
        self.stop.take().unwrap().send(()).unwrap();
        self.running.take().unwrap()
    }

    /// Tells the server to scan its heads, as SIGHUP does.
    pub(crate) fn rescan(&self) {
        (self.rescan)();
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

pub(crate) async fn get(admin: SocketAddr, path: &str) -> (u16, String) {
    let url = format!("http://{admin}{path}");
    let fetched = tokio::task::spawn_blocking(move || {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut response = agent.get(url).call().unwrap();
        (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
    });
    fetched.await.unwrap()
}

impl Builder {
    pub(crate) fn heads(&self) -> &Path {
        self.config.heads.root()
    }

    pub(crate) fn base(mut self, base: impl Base + 'static) -> Self {
        self.base = Some(Box::new(base));
        self
    }

    pub(crate) fn engine(mut self, change: impl FnOnce(&mut EngineConfig)) -> Self {
        change(&mut self.config.engine);
        self
    }

    pub(crate) fn grpc(mut self, change: impl FnOnce(&mut GrpcLimits)) -> Self {
        change(&mut self.config.grpc);
        self
    }

    pub(crate) fn rescan(mut self, rescan: Duration) -> Self {
        self.config.rescan = rescan;
        self
    }

    pub(crate) fn verdict_log(mut self, choice: VerdictLog) -> Self {
        self.config.verdict_log = choice;
        self
    }

    pub(crate) fn dropped_lines(mut self, dropped_lines: DroppedLines) -> Self {
        self.config.dropped_lines = dropped_lines;
        self
    }

    pub(crate) fn health(mut self, change: impl FnOnce(&mut HealthBounds)) -> Self {
        change(&mut self.config.health);
        self
    }

    /// Reads the heads through these files.
    pub(crate) fn files(mut self, files: Arc<dyn Files>) -> Self {
        self.config.heads = HeadStore::with_files(self.config.heads.root(), files);
        self
    }

    pub(crate) fn drain(mut self, drain: Duration) -> Self {
        self.config.drain = drain;
        self
    }

    /// Starts with the fake base and returns its control too.
    pub(crate) async fn start_fake(self) -> (TestServer, Arc<Control>) {
        let (base, control) = FakeBase::new();
        self.start_with(base, control).await
    }

    pub(crate) async fn start_with(
        self,
        base: FakeBase,
        control: Arc<Control>,
    ) -> (TestServer, Arc<Control>) {
        let server = self.base(base).start().await;
        control.forget_warm_up();
        (server, control)
    }

    pub(crate) async fn start(self) -> TestServer {
        let base = self.base.unwrap();
        let heads = self.config.heads.root().to_owned();
        let load = move |_: &turret::metrics::Metrics| Ok::<_, std::io::Error>(base);
        let server = Server::start(self.config, load).await.unwrap();
        let (grpc, admin) = (server.grpc_address, server.admin_address);
        within_patience("the server to be ready", server.ready()).await;
        let (stop, stopped) = oneshot::channel();
        let stopped = async {
            if stopped.await.is_err() {
                // The test ended without a stop: the server ends with the test's runtime.
                std::future::pending::<()>().await;
            }
        };
        let rescan = Box::new(server.rescanner());
        let running = tokio::spawn(server.run(stopped));
        TestServer {
            grpc,
            admin,
            heads,
            rescan,
            stop: Some(stop),
            running: Some(running),
            folder: self.folder,
        }
    }
}
