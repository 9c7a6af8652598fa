//! CUDA: its library, opened when it is wanted, and forward passes that are recorded once and replayed.

mod graphs;
mod lane;
pub(super) mod library;
mod pixels;

pub(super) use lane::Lanes;
pub(super) use pixels::{Pixels, Reduced, Shape};
