//! CUDA: its library, opened when it is wanted, and forward passes that are recorded once and replayed.

mod graph_streams;
mod graphs;
pub(super) mod library;
mod pixels;

pub(super) use pixels::{Pixels, Reduced, Shape};
pub(super) use stream::GraphStreams;
