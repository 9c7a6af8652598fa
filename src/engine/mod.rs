//! The serving core: from an accepted picture to its verdicts.
//!
//! ```text
//! try_reserve -> Slot -> [arrivals] -> decode threads -> [batcher] -> device thread -> Answer
//!  (admission)          (a line a task) (decode, resize) (a line a task)  (base, heads)
//! ```
//!
//! Guarantees:
//! 1. A place is refused at once or is there: what holds a [`Slot`] cannot find the queue full later.
//! 2. Places are bounded in images and in bytes, and come back when the answer is given or its caller goes away,
//!    also while a forward pass is running.
//! 3. No work is begun for a request that is cancelled or past its deadline, and none of them reaches the base.
//! 4. Every accepted request is answered, also when decoding or the base panics or the device thread ends.
//! 5. The base is used by one thread only; images of different tasks share its batches. Where the base takes several batches
//!    at a time the next is begun before the one before it has ended, and they are answered in that order.
//! 6. The device is never idle while something is ready for it, unless it is told to wait for company; every forward
//!    pass of requests has a size that was warmed up.
//! 7. A request that cannot meet its deadline as far as can be foreseen is refused on arrival, and one that became certain
//!    to miss it is answered so before it is decoded or computed. Foreseen by the least that its own forward pass takes,
//!    what those of the images before it take in all likelihood, and by the turns of the tasks.
//! 8. Work that no request waits for is done between two batches, one piece at a time.
//! 9. The tasks share preparation and device fairly, image by image: what asks for no more than its share goes before
//!    what asks for more. A request of several tasks counts for its first. No task can hold so many places that another
//!    finds none.
//!
//! 10. The private layers of deep heads never take more memory than their budget, and are on the device for as long as
//!     anything holds the head.

mod admission;
mod background;
mod batch_features;
pub mod batch_sizes;
pub mod batch_times;
pub mod batcher;
mod branch_budget;
mod decode;
mod device_thread;
mod error;
pub mod fair_queue;
mod job;
mod queue;

pub use batch_sizes::BatchSizes;
pub use batch_times::BatchTimes;
pub use branch_budget::LoadBranchError;
pub use error::{EngineError, Unit};
pub use job::{Answer, Request, StageTimes};

use std::{
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::{
    base::{
        Base, BaseError, BaseIdentity, BranchId, BranchRows, BranchWeights, FeatureBatch,
        FeatureSet, FeatureWidths, ForwardRequest, LoadedBranch, Outputs,
    },
    head::Head,
    image::{ImageLimits, PreparedImage},
    metrics::Metrics,
};
use admission::{Admission, Permit, ReserveRequest};
use background::BackgroundJob;
use branch_budget::BranchBudget;
use job::{Arrival, Job};
use queue::{Queue, lock};

#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Images in one forward pass: each size is warmed up at the start.
    pub batch_sizes: BatchSizes,
    /// How long an idle device waits for more images. Zero: never, and a batch is no larger than pays.
    pub max_delay: Duration,
    /// Images that may be accepted and not yet answered.
    pub max_queue_images: usize,
    /// Bytes of pictures that may be accepted and not yet answered.
    pub max_queue_bytes: usize,
    pub decode_threads: usize,
    /// Bytes that the private layers of deep heads may take on the device, counted in f32.
    pub deep_head_budget: u64,
    pub limits: ImageLimits,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            batch_sizes: BatchSizes::up_to(8),
            max_delay: Duration::ZERO,
            max_queue_images: 256,
            max_queue_bytes: 512 << 20,
            decode_threads: 2,
            deep_head_budget: 1 << 30,
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
    times: Arc<Mutex<BatchTimes>>,
    limits: ImageLimits,
    branches: Arc<BranchBudget>,
    identity: BaseIdentity,
    widths: FeatureWidths,
    arithmetic: String,
    threads: Mutex<Threads>,
}

#[derive(Debug, Default)]
struct Threads {
    decode: Vec<JoinHandle<()>>,
    device: Option<JoinHandle<()>>,
}

/// A reserved place; the only way to have something classified.
#[derive(Debug)]
pub struct Reservation {
    heads: Vec<Arc<Head>>,
    deadline: Option<Instant>,
    permit: Permit,
    queue: Arc<Queue>,
}

impl Engine {
    /// Warms the base with forward passes of every size and starts the threads.
    ///
    /// # Errors
    /// [`BaseError`] if the base cannot even do that.
    pub fn start(
        mut base: Box<dyn Base>,
        config: &EngineConfig,
        metrics: Arc<Metrics>,
    ) -> Result<Self, BaseError> {
        let times = device_thread::warm_up(base.as_mut(), config.batch_sizes.clone())?;
        let times = Arc::new(Mutex::new(times));
        let (identity, widths) = (base.identity().clone(), base.widths());
        let arithmetic = base.arithmetic().to_owned();
        let queue = Arc::new(Queue::new(config.max_delay, times.clone()));
        let admission = Arc::new(Admission::new(
            config.max_queue_images,
            config.max_queue_bytes,
            metrics.clone(),
        ));
        let decode = (0..config.decode_threads.max(1))
            .map(|number| {
                decode::spawn(
                    number,
                    queue.clone(),
                    times.clone(),
                    config.limits.clone(),
                    metrics.clone(),
                )
            })
            .collect();
        let branches = Arc::new(BranchBudget::new(config.deep_head_budget, metrics.clone()));
        let device =
            device_thread::spawn(base, queue.clone(), admission.clone(), times.clone(), metrics);
        let threads = Mutex::new(Threads { decode, device: Some(device) });
        Ok(Self {
            shared: Arc::new(Shared {
                admission,
                queue,
                times,
                limits: config.limits.clone(),
                branches,
                identity,
                widths,
                arithmetic,
                threads,
            }),
        })
    }

    pub fn identity(&self) -> &BaseIdentity {
        &self.shared.identity
    }

    pub fn widths(&self) -> FeatureWidths {
        self.shared.widths
    }

    /// Which pictures are taken.
    pub fn limits(&self) -> &ImageLimits {
        &self.shared.limits
    }

    /// As [`Base::arithmetic`].
    pub fn arithmetic(&self) -> &str {
        &self.shared.arithmetic
    }

    /// The features of some pictures, the base's own or those of a branch, computed between two batches; for what no
    /// request waits for. Blocks.
    ///
    /// # Errors
    /// If the engine is shut down before, or the forward pass fails.
    pub fn features(
        &self,
        pictures: Vec<PreparedImage>,
        outputs: Outputs,
        branch: Option<BranchId>,
    ) -> Result<FeatureBatch, EngineError> {
        let compute = move |base: &mut dyn Base| {
            let pictures: Vec<&PreparedImage> = pictures.iter().collect();
            let Some(branch) = branch else { return base.forward(&pictures, outputs) };
            let rows = [BranchRows { branch, images: (0..pictures.len()).collect() }];
            let mut features = base.forward_branches(
                &pictures,
                ForwardRequest { outputs, own: false, branches: &rows },
            )?;
            Ok(features.branches.pop().unwrap_or_default())
        };
        let (background, answer) = BackgroundJob::new(compute);
        self.shared.queue.push_background(background)?;
        answer.wait()?.map_err(|error| EngineError::Failed { detail: error.to_string() })
    }

    /// The feature set `pyramid` of one picture, computed between two batches. Blocks.
    ///
    /// # Errors
    /// As [`features`](Self::features).
    pub fn embed(&self, picture: PreparedImage) -> Result<Vec<f32>, EngineError> {
        Ok(self.features(vec![picture], Outputs::for_sets([FeatureSet::Pyramid]), None)?.pyramid)
    }

    /// Takes a deep head's private layers onto the device, between two batches. Blocks.
    ///
    /// # Errors
    /// [`LoadBranchError::OverBudget`] if deep heads have no room left; if they are no layers of this base; if the engine
    /// is shut down.
    pub fn load_branch(&self, weights: BranchWeights) -> Result<LoadedBranch, LoadBranchError> {
        branch_budget::load(&self.shared.branches, &self.shared.queue, weights)
    }

    /// What is left of the budget for deep heads, in bytes.
    pub fn free_branch_bytes(&self) -> u64 {
        self.shared.branches.free()
    }

    /// Whether the device still answers: false after several failed forward passes in a row, or when its thread ended.
    pub fn is_healthy(&self) -> bool {
        self.shared.admission.device_works()
    }

    /// Reserves a place for a picture of `bytes` that these heads, at least one, shall judge. It takes one image's room
    /// for each different preprocessing, in the line of the first head's task.
    ///
    /// # Errors
    /// At once, and before any work: no room, too late, draining, device lost, or more than could ever fit.
    pub fn try_reserve(
        &self,
        heads: Vec<Arc<Head>>,
        bytes: usize,
        deadline: Option<Instant>,
    ) -> Result<Reservation, EngineError> {
        let Some(first) = heads.first() else {
            return Err(EngineError::Failed { detail: "a place was asked for no head".to_owned() });
        };
        let images = decode::different_preprocesses(&heads).0.len();
        let request = ReserveRequest { task: &first.task, images, bytes, deadline };
        let Shared { admission, queue, times, .. } = &*self.shared;
        let permit = admission.try_reserve(&request, &lock(times), Instant::now())?;
        Ok(Reservation { heads, deadline, permit, queue: queue.clone() })
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
        let threads = std::mem::take(&mut *lock(&self.shared.threads));
        for thread in threads.decode.into_iter().chain(threads.device) {
            if thread.join().is_err() {
                tracing::error!("a thread of the engine ended by a panic");
            }
        }
    }
}

impl Reservation {
    /// Decodes, prepares and judges a picture.
    ///
    /// Dropping the future cancels the request and gives its place back at once.
    pub async fn classify(self, request: Request) -> Result<Answer, EngineError> {
        let (reply, answer) = oneshot::channel();
        let deadline = self.deadline;
        let job = Job::new(self.heads, deadline, request.want_features, reply, self.permit);
        let arrival = Arrival { job, source: request.source, roi: request.roi };
        // Dropped after the receiver of the answer, which moves into the select below.
        let _cancel_on_drop = self.queue.push(arrival)?;
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
