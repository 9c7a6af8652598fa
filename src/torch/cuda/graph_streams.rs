//! Forward passes in flight on a CUDA device: streams that replay whole recorded passes.

use std::collections::{HashMap, HashSet};

use tch::TchError;

use super::{
    graphs::{Functions, Graph, Stream},
    pixels::{Pixels, Reduced, Shape},
};
use crate::{base::DeviceId, image::PreparedImage, torch::pooling::Pooled};

/// While one pass computes, the next copies its pixels and queues its kernels; a third would wait.
const STREAMS: usize = 2;
/// Each recording holds the memory of a whole pass; batches come in only a few sizes.
const MAX_SHAPES: usize = 16;

/// The shape of a finished pass, and channels and pooled features of each stage.
pub(in crate::torch) type Found = (Shape, Vec<(usize, Pooled)>);

/// The streams of a device, with a recording of each frequent shape on every stream.
///
/// Guarantees:
/// 1. A stream runs one pass at a time and starts the next only after that pass was waited for:
///    nothing overwrites pixels that a pass still reads, or features that were not yet read.
/// 2. A shape is recorded the second time it comes, on every stream at once: a shape seen once is
///    not worth it, and after a warm-up nothing is recorded while requests wait.
/// 3. If a recording fails, no other is attempted; existing recordings stay in use.
#[derive(Debug, Default)]
pub(in crate::torch) struct GraphStreams {
    streams: Vec<GraphStream>,
    seen: HashSet<Shape>,
    gave_up: bool,
}

#[derive(Debug)]
struct GraphStream {
    functions: &'static Functions,
    device: tch::Device,
    stream: Stream,
    recordings: HashMap<Shape, Recording>,
    running: Option<Shape>,
}

#[derive(Debug)]
struct Recording {
    pixels: Pixels,
    reduced: Vec<Reduced>,
    graph: Graph,
}

impl GraphStreams {
    /// Opens the streams; none if the device is not CUDA or the program cannot record.
    pub(in crate::torch) fn open(device: DeviceId) -> Self {
        let DeviceId::Cuda(number) = device else { return Self::default() };
        let opened = Functions::open().map_err(|error| error.to_string()).and_then(|functions| {
            let streams =
                (0..STREAMS).map(|_| GraphStream::new(functions, number)).collect::<Result<_, _>>();
            streams.map_err(|error| error.to_string())
        });
        match opened {
            Ok(streams) => {
                // The weights were laid out on another stream.
                tch::Cuda::synchronize(number as i64);
                Self { streams, ..Self::default() }
            }
            Err(error) => {
                tracing::warn!(%error, "forward passes are not recorded as CUDA graphs");
                Self::default()
            }
        }
    }

    /// Returns how many passes may run at a time.
    pub(in crate::torch) fn in_flight(&self) -> usize {
        self.streams.len().max(1)
    }

    /// Starts a recorded pass on a free stream and returns the stream's number.
    ///
    /// Returns `None` if none is free or the shape gets no recording. `pass` starts a pass's work.
    pub(in crate::torch) fn begin(
        &mut self,
        images: &[&PreparedImage],
        pass: impl Fn(&Pixels) -> Result<Vec<Reduced>, TchError>,
    ) -> Result<Option<usize>, TchError> {
        let side = images.first().map_or(0, |image| image.side);
        let shape = Shape { images: images.len(), side };
        let Some(free) = self.streams.iter().position(|stream| stream.running.is_none()) else {
            return Ok(None);
        };
        if !self.streams.iter().all(|stream| stream.recordings.contains_key(&shape)) {
            if !self.is_worth_recording(shape) {
                return Ok(None);
            }
            if let Err(error) =
                self.streams.iter_mut().try_for_each(|stream| stream.record(shape, images, &pass))
            {
                tracing::warn!(
                    %error,
                    ?shape,
                    "cannot record a forward pass as a CUDA graph; no other is tried"
                );
                self.gave_up = true;
                return Ok(None);
            }
        }
        self.streams[free].begin(shape, images)?;
        Ok(Some(free))
    }

    fn is_worth_recording(&mut self, shape: Shape) -> bool {
        let seen_before = self.seen.contains(&shape);
        if self.seen.len() < MAX_SHAPES {
            self.seen.insert(shape);
        }
        seen_before && !self.gave_up
    }

    /// Waits for the pass on a stream; returns `None` if none runs there.
    pub(in crate::torch) fn finish(&mut self, stream: usize) -> Result<Option<Found>, TchError> {
        self.streams.get_mut(stream).map_or(Ok(None), GraphStream::finish)
    }
}

impl GraphStream {
    fn new(functions: &'static Functions, number: usize) -> Result<Self, TchError> {
        let (device, stream) = (tch::Device::Cuda(number), Stream::new(functions, number)?);
        Ok(Self { functions, device, stream, recordings: HashMap::new(), running: None })
    }

    fn record(
        &mut self,
        shape: Shape,
        images: &[&PreparedImage],
        pass: &impl Fn(&Pixels) -> Result<Vec<Reduced>, TchError>,
    ) -> Result<(), TchError> {
        self.stream.enter()?;
        let mut pixels = Pixels::pinned(shape, self.device)?;
        pixels.fill(images)?;
        // Lets cuDNN try its algorithms and libraries allocate: neither can be recorded.
        drop(pass(&pixels)?);
        self.stream.wait()?;
        let (graph, reduced) = Graph::record(self.functions, || pass(&pixels))?;
        self.recordings.insert(shape, Recording { pixels, reduced, graph });
        Ok(())
    }

    fn begin(&mut self, shape: Shape, images: &[&PreparedImage]) -> Result<(), TchError> {
        let Some(recording) = self.recordings.get_mut(&shape) else {
            return Err(TchError::Torch(format!("no recording of {shape:?}")));
        };
        self.stream.enter()?;
        recording.pixels.fill(images)?;
        recording.graph.replay()?;
        self.running = Some(shape);
        Ok(())
    }

    fn finish(&mut self) -> Result<Option<Found>, TchError> {
        let Some(shape) = self.running.take() else { return Ok(None) };
        self.stream.enter()?;
        self.stream.wait()?;
        let Some(recording) = self.recordings.get(&shape) else { return Ok(None) };
        let pooled =
            recording.reduced.iter().map(|reduced| Ok((reduced.channels, reduced.read()?)));
        Ok(Some((shape, pooled.collect::<Result<_, TchError>>()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_shape_is_worth_recording_up_to_a_limit() {
        let mut streams = GraphStreams::default();
        let shape = |images| Shape { images, side: 224 };
        assert!(!streams.is_worth_recording(shape(1)));
        assert!(streams.is_worth_recording(shape(1)));
        for images in 2..100 {
            streams.is_worth_recording(shape(images));
        }
        assert!(
            streams.is_worth_recording(shape(MAX_SHAPES)) && !streams.is_worth_recording(shape(99))
        );
        streams.gave_up = true;
        assert!(!streams.is_worth_recording(shape(1)), "an earlier recording failed");
    }

    #[test]
    fn without_cuda_no_pass_is_recorded() {
        let mut streams = GraphStreams::open(DeviceId::Cpu);
        assert_eq!(streams.in_flight(), 1);
        let image =
            PreparedImage { side: 1, pixels: vec![1, 2, 3].into(), mean: [0.0; 3], std: [1.0; 3] };
        let begun = streams.begin(&[&image], |_| Ok(Vec::new()));
        assert!(matches!(begun, Ok(None)) && matches!(streams.finish(0), Ok(None)));
    }
}
