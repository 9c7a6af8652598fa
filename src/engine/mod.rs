//! The serving core: from an accepted picture to its verdicts.
//!
//! ```text
//! try_reserve -> Slot -> [arrivals] -> prepare threads -> [batcher] -> device thread -> Answer
//!  (admission)            (queue)       (decode, resize)   (batches)    (base, heads)
//! ```
//!
//! Guarantees:
//! 1. A place is refused at once or is there: what holds a [`Slot`] cannot find the queue full later.
//! 2. Places are bounded in images and in bytes, and come back when the answer is given or its caller goes away,
//!    also while a forward pass is running.
//! 3. No work is begun for a request that is cancelled or past its deadline, and none of them reaches the base.
//! 4. Every accepted request is answered, also when decoding or the base panics or the device thread ends.
//! 5. The base is used by one thread only; images of different tasks share its batches.

mod admission;
mod batcher;
mod device_thread;
mod error;
mod job;
mod prepare;
mod queue;

pub use error::EngineError;
pub use job::{Answer, Request, StageTimes};

use std::{
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::oneshot;

use crate::{
    base::{Base, BaseError},
    features::{BaseIdentity, FeatureWidths},
    head::Head,
    image::ImageLimits,
    metrics::Metrics,
};
use admission::{Admission, Place};
use batcher::BatchRule;
use job::{Arrival, Job};
use queue::Queue;

#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Images in one forward pass, at most.
    pub max_batch: usize,
    /// How long an idle device waits for more images; zero: never.
    pub max_delay: Duration,
    /// Images that may be accepted and not yet answered.
    pub max_queue_images: usize,
    /// Bytes of pictures that may be accepted and not yet answered.
    pub max_queue_bytes: usize,
    pub decode_threads: usize,
    pub limits: ImageLimits,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            max_batch: 32,
            max_delay: Duration::ZERO,
            max_queue_images: 256,
            max_queue_bytes: 512 << 20,
            decode_threads: 2,
            limits: ImageLimits::default(),
        }
    }
}

/// The handle: cheap to clone, usable from any thread.
#[derive(Debug, Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    admission: Arc<Admission>,
    queue: Arc<Queue>,
    identity: BaseIdentity,
    widths: FeatureWidths,
    threads: Mutex<Threads>,
}

#[derive(Debug, Default)]
struct Threads {
    prepare: Vec<JoinHandle<()>>,
    device: Option<JoinHandle<()>>,
}

/// A reserved place; the only way to have something classified.
#[derive(Debug)]
pub struct Slot {
    heads: Vec<Arc<Head>>,
    place: Place,
    queue: Arc<Queue>,
}

impl Engine {
    /// Warms the base with one forward pass and starts the threads.
    ///
    /// # Errors
    /// [`BaseError`] if the base cannot even do that.
    pub fn start(
        mut base: Box<dyn Base>,
        config: &EngineConfig,
        metrics: Arc<Metrics>,
    ) -> Result<Self, BaseError> {
        device_thread::warm_up(base.as_mut())?;
        let (identity, widths) = (base.identity().clone(), base.widths());
        let rule = BatchRule { max_images: config.max_batch.max(1), max_delay: config.max_delay };
        let queue = Arc::new(Queue::new(rule));
        let admission =
            Arc::new(Admission::new(config.max_queue_images, config.max_queue_bytes, metrics.clone()));
        let prepare = (0..config.decode_threads.max(1))
            .map(|number| prepare::spawn(number, queue.clone(), config.limits.clone(), metrics.clone()))
            .collect();
        let device =
            device_thread::spawn(base, queue.clone(), admission.clone(), config.max_batch.max(1), metrics);
        let threads = Mutex::new(Threads { prepare, device: Some(device) });
        Ok(Self { shared: Arc::new(Shared { admission, queue, identity, widths, threads }) })
    }

    pub fn identity(&self) -> &BaseIdentity {
        &self.shared.identity
    }

    pub fn widths(&self) -> FeatureWidths {
        self.shared.widths
    }

    /// Whether the device still answers: false after several failed forward passes in a row, or when its thread ended.
    pub fn is_healthy(&self) -> bool {
        self.shared.admission.device_works()
    }

    /// Reserves a place for a picture of `bytes` that these heads, at least one, shall judge. It takes one image's room
    /// for each different preprocessing.
    ///
    /// # Errors
    /// At once, and before any work: no room, draining, device lost, or more than could ever fit.
    pub fn try_reserve(&self, heads: Vec<Arc<Head>>, bytes: usize) -> Result<Slot, EngineError> {
        let images = prepare::different_preprocesses(&heads).0.len();
        let place = self.shared.admission.try_reserve(images, bytes)?;
        Ok(Slot { heads, place, queue: self.shared.queue.clone() })
    }

    /// Refuses new requests from now on; those accepted go on.
    pub fn stop_accepting(&self) {
        self.shared.admission.stop_accepting();
    }

    /// Waits until every accepted request is answered.
    pub async fn drained(&self) {
        self.shared.admission.drained().await;
    }

    /// Ends the threads. What is still queued is answered with [`EngineError::Draining`]; a forward pass that is
    /// running is finished first. Blocks for as long as that takes.
    pub fn shut_down(&self) {
        self.stop_accepting();
        self.shared.queue.close();
        let threads =
            std::mem::take(&mut *self.shared.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads.prepare.into_iter().chain(threads.device) {
            if thread.join().is_err() {
                tracing::error!("a thread of the engine ended by a panic");
            }
        }
    }
}

impl Slot {
    /// Decodes, prepares and judges a picture.
    ///
    /// Dropping the future cancels the request and gives its place back at once.
    pub async fn classify(self, request: Request) -> Result<Answer, EngineError> {
        let (reply, answer) = oneshot::channel();
        let deadline = request.deadline;
        let job = Job::new(self.heads, deadline, request.want_features, reply, self.place);
        let arrival = Arrival { job, source: request.source, roi: request.roi };
        // Dropped after the receiver of the answer, which moves into the select below.
        let _ticket = self.queue.push(arrival)?;
        let passed = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            // A job that ended without an answer was dropped by a thread that is gone.
            answer = answer => answer.unwrap_or(Err(EngineError::DeviceLost)),
            () = passed => Err(EngineError::DeadlinePassed),
            // In a forward pass that the drain time could not wait for.
            () = self.queue.closed() => Err(EngineError::Draining),
        }
    }
}
