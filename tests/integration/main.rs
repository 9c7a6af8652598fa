//! The server as its users see it: over gRPC and HTTP with a controlled base, and as processes.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot continue has failed"
)]

mod decoders;
mod support;

mod bad_heads;
mod base_files;
mod classify;
mod commands;
mod deep_heads;
mod documents;
mod embed;
mod embed_bounds;
mod health;
mod hostile;
mod hot_swap;
mod images;
mod layering;
mod logging;
mod manifests;
mod many_heads;
mod observing;
mod overload;
mod preprocessing;
#[cfg(feature = "torch")]
mod real_base;
mod shutdown;
#[cfg(not(feature = "torch"))]
mod without_libtorch;
