//! The gRPC edge: parses requests, hands them to the engine and builds the answers.

mod classify;
mod codec;
mod connection;
mod deadline;
mod embed;
mod heads;
mod listener;
mod received;
mod receiving;
mod request;
mod request_metrics;
mod response;
mod status;
mod stream;
mod suggestions;
mod verdict_log;
mod wire;

pub use classify::ClassifierService;
pub use codec::Codec;
pub use heads::HeadsService;
pub use received::Received;
pub use status::to_code;
pub use suggestions::Suggestions;
pub use verdict_log::VerdictLog;

/// The messages and clients generated from `proto/turret/v1/turret.proto`.
pub mod proto {
    tonic::include_proto!("turret.v1");

    /// The encoded file descriptors, for reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/turret_v1.bin"));
}

/// The services generated from the same file, with [`Received`] for each request.
#[expect(unreachable_pub, reason = "generated code is public throughout")]
mod services {
    include!(concat!(env!("OUT_DIR"), "/services/turret.v1.rs"));
}

use std::{future::Future, io, sync::Arc, time::Duration};

use axum::middleware;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{codec::CompressionEncoding, service::Routes, transport::Server};

use crate::{engine::Engine, metrics::Metrics, registry::Registry};
use connection::Timers;
use receiving::ReceiveBudget;
use services::{classifier_server::ClassifierServer, heads_server::HeadsServer};

/// The gRPC service whose health tells whether this server classifies.
pub const CLASSIFIER_SERVICE: &str = "turret.v1.Classifier";

/// The state that the gRPC and admin handlers share.
#[derive(Debug)]
pub struct ServerState {
    pub registry: Arc<Registry>,
    pub metrics: Arc<Metrics>,
    /// Unset until the base is warm.
    pub engine: std::sync::OnceLock<Engine>,
    /// Ends streams that would otherwise outlive the server.
    pub draining: CancellationToken,
    /// The streams of requests that are open.
    pub streams: TaskTracker,
    pub verdict_log: VerdictLog,
    pub suggestions: Suggestions,
}

#[derive(Debug, Clone, Copy)]
pub struct GrpcLimits {
    /// Maximum bytes of one message; tonic's default of 4 MiB would refuse a 5-megapixel frame.
    pub max_message_bytes: usize,
    /// Maximum bytes of requests that are being received, over all connections.
    pub max_receive_bytes: usize,
    /// Maximum open connections; more wait until one ends.
    pub max_connections: usize,
    /// Age at which a connection is asked to close, so that new servers get their share.
    pub max_connection_age: Duration,
    /// How long what runs on a connection may then take.
    pub max_connection_grace: Duration,
}

impl Default for GrpcLimits {
    fn default() -> Self {
        Self {
            max_message_bytes: 64 << 20,
            max_receive_bytes: 1 << 30,
            max_connections: 128,
            max_connection_age: Duration::from_secs(60 * 60),
            max_connection_grace: Duration::from_secs(12 * 60 * 60),
        }
    }
}

impl GrpcLimits {
    const fn timers(&self) -> Timers {
        Timers {
            handshake: Duration::from_secs(10),
            silence: KEEPALIVE_INTERVAL.saturating_add(KEEPALIVE_TIMEOUT).saturating_mul(2),
            stalled_write: Duration::from_secs(30),
            life: self.max_connection_age.saturating_add(self.max_connection_grace),
        }
    }
}

/// Maximum requests in flight on one connection.
const MAX_STREAMS: u32 = 64;

/// Flow-control windows in bytes: what a client may send before the server reads it.
const STREAM_WINDOW: u32 = 256 << 10;
/// Room for all streams, so that those that are not read leave the others theirs.
const CONNECTION_WINDOW: u32 = MAX_STREAMS * STREAM_WINDOW;

/// Maximum bytes of a request's headers.
const MAX_HEADERS: u32 = 16 << 10;
/// Streams that a client may reset before they are accepted; beyond it the connection ends.
const MAX_PENDING_RESETS: usize = 20;
/// Streams that the server may reset for a client's mistakes; beyond it the connection ends.
const MAX_ERROR_RESETS: usize = 128;

/// A peer that vanished silently is detected after these two together.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves until `shutdown` completes and all connections have ended.
///
/// # Errors
/// If the reflection descriptors are broken or the listener fails.
pub async fn serve(
    listener: TcpListener,
    state: Arc<ServerState>,
    limits: GrpcLimits,
    health: Routes,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let reflection_v1 = reflection().build_v1().map_err(io::Error::other)?;
    let reflection_v1alpha = reflection().build_v1alpha().map_err(io::Error::other)?;
    // The limit holds for a message as received and as unpacked: tonic stops unpacking there.
    let classifier = ClassifierServer::new(ClassifierService::new(state.clone()))
        .accept_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(limits.max_message_bytes)
        .max_encoding_message_size(limits.max_message_bytes);
    let heads =
        HeadsServer::new(HeadsService::new(state)).accept_compressed(CompressionEncoding::Gzip);
    let routes = health
        .add_service(classifier)
        .add_service(heads)
        .add_service(reflection_v1.accept_compressed(CompressionEncoding::Gzip))
        .add_service(reflection_v1alpha.accept_compressed(CompressionEncoding::Gzip));
    let budget = ReceiveBudget::new(limits.max_receive_bytes, limits.max_message_bytes);
    let admit = middleware::map_request(move |request| std::future::ready(budget.admit(request)));
    let routes = Routes::from(routes.prepare().into_axum_router().layer(admit));
    let incoming = listener::connections(listener, limits.max_connections, limits.timers());
    Server::builder()
        .max_concurrent_streams(Some(MAX_STREAMS))
        .initial_stream_window_size(Some(STREAM_WINDOW))
        .initial_connection_window_size(Some(CONNECTION_WINDOW))
        .http2_max_header_list_size(Some(MAX_HEADERS))
        .http2_max_pending_accept_reset_streams(Some(MAX_PENDING_RESETS))
        .http2_max_local_error_reset_streams(Some(MAX_ERROR_RESETS))
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        // Its own grace would end the connection without asking it to close: ours is in the timers.
        .max_connection_age(limits.max_connection_age)
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, shutdown)
        .await
        .map_err(io::Error::other)
}
