//! CUDA: its library, opened on demand, and forward passes that are recorded once and replayed.

mod graph_streams;
mod graphs;
pub(super) mod library;
mod pixels;

pub(super) use graph_streams::GraphStreams;
pub(super) use pixels::{Pixels, Reduced, Shape};
