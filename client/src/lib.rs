//! The client of Turret, a gRPC server for image classifiers.
//!
//! ```no_run
//! use turret_client::{Client, Error, proto::ClassifyRequest};
//!
//! # async fn judge(picture: Vec<u8>) -> Result<(), Error> {
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
//! and a lost connection is opened again by the next call. [`Client::classify`] and
//! [`Client::heads`] end at a deadline and retry until then what can succeed later; see
//! [`RetryPolicy`]. The server reads the remaining time from each attempt and does not start on
//! what would come too late. Streams ([`Client::classify_stream`], [`Client::watch`]) have no
//! deadline and are not retried.
//!
//! Only a verdict whose decision is PASS lets a part pass. An [`Error`], NOT_JUDGED and a decision
//! that this build does not know never do.
//!
//! With the feature `cli`, which is on by default, `cli` has the subcommands of `turretctl`.
//! A program that only needs the library sets `default-features = false`.

mod builder;
mod client;
mod error;
mod request;
mod retry;

#[cfg(feature = "cli")]
pub mod cli;

pub use builder::ClientBuilder;
pub use client::Client;
pub use error::Error;
pub use retry::RetryPolicy;
pub use tonic::Code;

/// The messages of the protocol and its generated clients, from `proto/turret/v1/turret.proto`.
pub mod proto {
    tonic::include_proto!("turret.v1");
}
