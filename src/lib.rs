//! A gRPC server for image classifiers: one frozen convolutional base, many hot-swappable heads.
//!
//! `ARCHITECTURE.md` has the code map, the glossary and the invariants of each module.
//!
//! # Layout
//! Modules form layers. Imports point down only; a test enforces it.
//!
//! | layer | modules |
//! |---|---|
//! | 0 words | [`ids`] [`error`] [`metrics`] [`atomic_file`] [`tensor_file`] |
//! | 1 parts | [`image`], then [`base`], then [`head`] and `torch` |
//! | 2 files | [`store`] |
//! | 3 serving core | [`registry`] [`engine`] |
//! | 4 control | [`reload`] [`train`] |
//! | 5 edge | [`grpc`] [`health`] [`admin`] |
//! | 6 program | [`config`] [`log`] [`server`], the binaries `turret` and `fine-tune` |
//!
//! `torch` (feature `torch`) is the only module that uses libtorch.
//!
//! # The path of an image
//! [`grpc`] parses the request and takes each task's [`head::Head`] from one snapshot of the
//! [`registry`]. The [`engine`] grants a reservation or refuses the request at once. Its decode
//! threads turn bytes into pixels ([`image`]), and its batcher forms batches across tasks. Its
//! device thread runs the [`base`] once per batch, the private layers of deep heads on their rows,
//! and each row's linear classifiers. The verdict carries the head's version and the stage times.
//!
//! # The path of a head
//! `fine-tune` ([`train`]) computes features once per picture and fits a head, with private layers
//! where they pay. It publishes the head as one file that is only ever seen whole ([`store`]). The
//! server scans the folder whenever something may have changed ([`reload`]), checks what is new
//! and installs it by swapping one pointer ([`registry`]). A rejected file changes nothing.

pub mod atomic_file;
pub mod error;
pub mod ids;
pub mod metrics;
pub mod tensor_file;

pub mod image;

pub mod base;
pub mod head;
#[cfg(feature = "torch")]
pub mod torch;

pub mod store;

pub mod engine;
pub mod registry;

pub mod reload;
pub mod train;

pub mod admin;
pub mod grpc;
pub mod health;

pub mod config;
pub mod log;
pub mod server;
