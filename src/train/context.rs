//! The context that the steps of a training share.

use super::{options::TrainOptions, progress::Event};
use crate::base::Base;

/// The settings, the base and the observer: the first parameter of every step.
pub(crate) struct TrainContext<'a> {
    pub(crate) options: &'a TrainOptions,
    pub(crate) base: &'a mut dyn Base,
    pub(crate) observer: &'a mut dyn FnMut(Event<'_>),
}

impl TrainContext<'_> {
    pub(crate) fn observe(&mut self, event: Event<'_>) {
        (self.observer)(event);
    }
}
