//! The frozen base's features of every picture, computed once and cached on disk by content.

pub mod cache;
pub(crate) mod extract;
pub mod pipeline;
pub(crate) mod reference;
