//! The gRPC edge: parses requests, hands them to the engine and builds the answers.

mod classify;
mod codec;
mod deadline;
mod embed;
mod heads;
mod received;
mod request;
mod request_metrics;
mod response;
mod status;
mod stream;
mod verdict_log;
mod wire;

pub use classify::ClassifierService;
pub use codec::Codec;
pub use heads::HeadsService;
pub use received::Received;
pub use status::to_code;
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

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::{
    codec::CompressionEncoding,
    service::Routes,
    transport::{Server, server::TcpIncoming},
};

use crate::{engine::Engine, metrics::Metrics, registry::Registry};
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
    /// Bounds the pictures of `Embed`, over all streams, that are decoded or wait for the device.
    pub embedding: tokio::sync::Semaphore,
    pub verdict_log: VerdictLog,
}

/// The number of permits of [`ServerState::embedding`].
pub const MOST_EMBEDDING: usize = 16;

#[derive(Debug, Clone, Copy)]
pub struct GrpcLimits {
    /// Maximum bytes of one message; tonic's default of 4 MiB would refuse a 5-megapixel frame.
    pub max_message_bytes: usize,
    /// Maximum requests in flight on one connection.
    pub max_streams: u32,
}

impl Default for GrpcLimits {
    fn default() -> Self {
        Self { max_message_bytes: 64 << 20, max_streams: 256 }
    }
}

/// Flow-control windows in bytes: one camera frame per stream, several per connection.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

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
        .add_service(reflection().build_v1().map_err(io::Error::other)?)
        .add_service(reflection().build_v1alpha().map_err(io::Error::other)?);
    let incoming = TcpIncoming::from(listener)
        .with_nodelay(Some(true))
        .with_keepalive(Some(KEEPALIVE_INTERVAL));
    Server::builder()
        .max_concurrent_streams(Some(limits.max_streams))
        .initial_stream_window_size(Some(STREAM_WINDOW))
        .initial_connection_window_size(Some(CONNECTION_WINDOW))
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, shutdown)
        .await
        .map_err(io::Error::other)
}
