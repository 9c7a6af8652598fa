//! Tests that run real networks and need libtorch.

mod batching;
mod commands;
mod golden;
mod training;
