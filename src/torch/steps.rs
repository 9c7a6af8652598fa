//! Prepares the layers of a network to run, and runs them.

use tch::{TchError, Tensor};

use super::kernels::{Convolution, Kernels};
use crate::base::layers::{ConvSpec, Stage, Step};

impl Step<ConvSpec> {
    /// Returns the step with every spec turned into something that runs.
    ///
    /// `prepare` receives the side of the map that the convolution reads. `side` is the step's
    /// input side before the call and its output side after it.
    pub(super) fn prepared<C, E>(
        &self,
        side: &mut usize,
        prepare: &mut impl FnMut(&ConvSpec, usize) -> Result<C, E>,
    ) -> Result<Step<C>, E> {
        let before = *side;
        *side = self.side_after(before);
        let after = *side;
        // A residual's second convolution reads the first one's output, which may be smaller.
        self.try_map(&mut |spec| prepare(spec, if spec.adds.is_some() { after } else { before }))
    }
}

impl<C> Step<C> {
    pub(super) fn try_map<D, E>(
        &self,
        map: &mut impl FnMut(&C) -> Result<D, E>,
    ) -> Result<Step<D>, E> {
        Ok(match self {
            Self::Convolution(convolution) => Step::Convolution(map(convolution)?),
            Self::MaxPool(pool) => Step::MaxPool(*pool),
            Self::Residual { conv1, conv2, shortcut } => Step::Residual {
                conv1: map(conv1)?,
                conv2: map(conv2)?,
                shortcut: shortcut.as_ref().map(map).transpose()?,
            },
        })
    }
}

impl Step<Box<dyn Convolution>> {
    pub(super) fn run(&self, x: &Tensor, kernels: &dyn Kernels) -> Result<Tensor, TchError> {
        match self {
            Self::Convolution(convolution) => convolution.relu(x),
            Self::MaxPool(pool) => kernels.max_pool(x, *pool),
            Self::Residual { conv1, conv2, shortcut } => {
                let inner = conv1.relu(x)?;
                let other = match shortcut {
                    Some(shortcut) => shortcut.linear(x)?,
                    // May be overwritten: nothing reads the block's input after this.
                    None => x.shallow_clone(),
                };
                conv2.add_relu(&inner, other)
            }
        }
    }
}

impl Stage<Box<dyn Convolution>> {
    pub(super) fn run(&self, mut x: Tensor, kernels: &dyn Kernels) -> Result<Tensor, TchError> {
        for step in &self.steps {
            x = step.run(&x, kernels)?;
        }
        Ok(x)
    }
}
