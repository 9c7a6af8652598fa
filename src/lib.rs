//! Turret serves image classifiers over gRPC: one frozen convolutional base, many small heads, swapped while it serves.
//!
//! # Layout
//! Modules stand in layers; imports point down only, and a test keeps it so.
//!
//! | layer | modules |
//! |---|---|
//! | 0 words | [`ids`] [`error`] [`metrics`] [`tensor_file`] [`atomic_file`] |
//! | 1 parts | [`image`], then [`base`], then [`head`] and `torch` |
//! | 2 files | [`store`] |
//! | 3 serving core | [`registry`], [`engine`] |
//! | 4 control | [`reload`] |
//! | 5 edge | [`grpc`], [`admin`] |
//! | 6 program | [`server`], [`config`], the binaries `turret` and `fine-tune` |
//!
//! # The way of an image
//! [`grpc`] parses the request and takes each task's [`head::Head`] from one snapshot of the [`registry`]. The
//! [`engine`] gives a slot or refuses at once; its prepare threads turn bytes into pixels ([`image`]); its batcher
//! forms batches of images of whatever tasks; its device thread runs the [`base`] once a batch, for the rows of heads that
//! have layers of their own those layers, and each row's own linear classifiers. The verdict goes back with the head's version and the time of each stage.
//!
//! # The way of a head
//! `fine-tune` (`train`) computes features once a picture, fits a head, with layers of its own where that is worth it, and
//! publishes it ([`store`]): one file that
//! can only be seen whole. The server looks at the whole folder whenever something may have changed ([`reload`]),
//! checks what is new and installs it ([`registry`]): one pointer. What does not validate changes nothing.

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

pub mod config;
pub mod server;
