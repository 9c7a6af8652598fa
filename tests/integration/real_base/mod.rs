//! Tests that run real networks; they need libtorch.

mod batching;
mod commands;
mod golden;
mod training;
