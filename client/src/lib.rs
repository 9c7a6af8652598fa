//! The client of Turret, a gRPC server for image classifiers.
//!
//! ```no_run
//! use turret_client::{Client, Error, proto::ClassifyRequest};
//!
//! # async fn classify(picture: Vec<u8>) -> Result<(), Error> {
//! let client = Client::connect("http://127.0.0.1:50051").await?;
//! let request = ClassifyRequest::new(picture, ["bracket-left"]);
//! for verdict in client.classify(request).await?.verdicts {
//!     println!("{:?} {} {:.3}", verdict.decision(), verdict.label, verdict.probability);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! One [`Client`] serves a whole program: it is cheap to clone, its clones share one connection,
//! and the next call reopens a lost connection. [`Client::classify`] and [`Client::heads`] end at a
//! deadline and until then retry failures that may be transient; see [`RetryPolicy`]. Each attempt
//! tells the server the remaining time, and the server does not start work that would be too late.
//! Streams ([`Client::classify_stream`], [`Client::watch`]) have no deadline and are not retried.
//!
//! Only a verdict whose decision is PASS lets a part pass. An [`Error`], NOT_JUDGED or a decision
//! unknown to this build never does.
//!
//! The default feature `cli` adds the subcommands of `turretctl`.
//! A program that only needs the library sets `default-features = false`.

mod builder;
mod client;
mod error;
mod request;
mod retry;
mod server_url;

#[cfg(feature = "cli")]
pub mod cli;

pub use builder::ClientBuilder;
pub use client::Client;
pub use error::{Error, code_name};
pub use retry::RetryPolicy;
pub use server_url::ServerUrl;
pub use tonic::Code;

/// The messages of the protocol and its generated clients, from `proto/turret/v1/turret.proto`.
pub mod proto {
    tonic::include_proto!("turret.v1");
}
