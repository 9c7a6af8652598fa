//! The serving core: from an accepted picture to its verdicts.
//!
//! ```text
//! try_reserve -> Reservation -> [arrivals] -> decoding -> [batcher] -> device thread -> Answer
//! (admission)               (flow per task)          (flow per task) (base, heads)
//! ```
//!
//! Guarantees:
//! 1. A reservation is granted or refused at once; its holder never finds the queue full.
//! 2. Reservations are bounded in images and in bytes, and end when the answer is given or the
//!    caller goes away, even during a forward pass.
//! 3. No work starts for a request that is cancelled or past its deadline, and none of them reaches
//!    the base.
//! 4. Every accepted request is answered, even if decoding, the base or a verdict panics or the
//!    device thread ends.
//! 5. Only one thread uses the base; images of different tasks share its batches. Where the base
//!    takes several batches at a time, the next starts before the previous one ends, and they are
//!    answered in order.
//! 6. The device is never idle while work is ready, unless `max_delay` makes it wait for more;
//!    every forward pass of requests has a size that was warmed up.
//! 7. A request that is not expected to meet its deadline is refused on arrival; one that became
//!    certain to miss it is answered before it is decoded or computed. The expectation adds the
//!    lower bound of its own forward pass to a conservative time for the images that fair queueing
//!    puts before it.
//! 8. Background work runs between two batches, one job at a time. It is bounded: the reload thread
//!    waits for each of its jobs, and at most [`MOST_EMBEDDING`] pictures are embedded at a time.
//! 9. Tasks share the decode threads and the device fairly, image by image: a task within its
//!    share goes before one above it. A request of several tasks counts for its first. No task can
//!    reserve so much that another finds no room. The pictures of `Embed` count as one task more.
//! 10. The private layers of deep heads never exceed their memory budget, and stay on the device as
//!     long as anything holds the head.
//! 11. Decoding holds no more than `max_decode_bytes`, which the header of each picture is asked
//!     for before its pixels are allocated.
//! 12. Nothing waits for ever: what has no deadline is given `max_wait` when it is accepted.

mod admission;
mod background;
mod batch_features;
pub mod batch_sizes;
pub mod batch_times;
pub mod batcher;
mod branch_budget;
mod decode;
mod device_thread;
mod embed;
mod error;
pub mod fair_queue;
mod job;
mod progress;
mod queue;

pub use batch_sizes::BatchSizes;
pub use batch_times::BatchTimes;
pub use branch_budget::LoadBranchError;
pub use embed::{EmbedRequest, MOST_EMBEDDING};
pub use error::{EngineError, Unit};
pub use job::{Answer, Request, StageTimes};
pub use progress::{EngineStatus, RunningWork};

use std::{
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::{Semaphore, oneshot};

use crate::{
    base::{
        Base, BaseError, BaseIdentity, BranchId, BranchRows, BranchWeights, FeatureBatch,
        FeatureWidths, ForwardRequest, LoadedBranch, Outputs,
    },
    head::Head,
    image::{DecodeBudget, ImageLimits, PreparedImage},
    metrics::Metrics,
};
use admission::{Admission, Permit, ReserveRequest};
use background::BackgroundJob;
use branch_budget::BranchBudget;
use job::{Arrival, ClassifyArrival, Job};
use progress::DeviceProgress;
use queue::{Queue, lock};

#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Sizes of forward passes in images; each is warmed up at the start.
    pub batch_sizes: BatchSizes,
    /// How long an idle device waits for more images. Zero: never, and batches are only as large as
    /// worthwhile.
    pub max_delay: Duration,
    /// Maximum images accepted and not yet answered.
    pub max_queue_images: usize,
    /// Maximum bytes of pictures accepted and not yet answered.
    pub max_queue_bytes: usize,
    pub decode_threads: usize,
    /// Maximum bytes that decoding holds, over all decode threads.
    pub max_decode_bytes: u64,
    /// Maximum bytes of deep heads' private layers on the device, counted in f32.
    pub deep_head_budget: u64,
    /// How long what has no deadline may wait for its answer.
    pub max_wait: Duration,
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
            max_decode_bytes: 1 << 30,
            deep_head_budget: 1 << 30,
            max_wait: Duration::from_secs(60),
            limits: ImageLimits::default(),
        }
    }
}

/// A handle to the running engine, cheap to clone and usable from any thread.
#[derive(Debug, Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    admission: Arc<Admission>,
    queue: Arc<Queue>,
    times: Arc<Mutex<BatchTimes>>,
    progress: Arc<DeviceProgress>,
    /// The places of [`Engine::embed`].
    embedding: Arc<Semaphore>,
    max_wait: Duration,
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

/// Reserved room in the queue, the only way to have a picture classified.
#[derive(Debug)]
pub struct Reservation {
    heads: Vec<Arc<Head>>,
    deadline: Option<Instant>,
    permit: Permit,
    queue: Arc<Queue>,
}

impl Engine {
    /// Warms up the base with forward passes of every size and starts the threads.
    ///
    /// # Errors
    /// [`BaseError`] if a warm-up pass fails.
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
        let decode_budget = DecodeBudget::new(config.max_decode_bytes);
        let decode = (0..config.decode_threads.max(1))
            .map(|number| {
                decode::spawn(
                    number,
                    queue.clone(),
                    times.clone(),
                    config.limits.clone(),
                    &decode_budget,
                    metrics.clone(),
                )
            })
            .collect();
        let branches = Arc::new(BranchBudget::new(config.deep_head_budget, metrics.clone()));
        let progress = Arc::new(DeviceProgress::default());
        let device = device_thread::spawn(
            base,
            queue.clone(),
            admission.clone(),
            times.clone(),
            progress.clone(),
            metrics,
        );
        let threads = Mutex::new(Threads { decode, device: Some(device) });
        Ok(Self {
            shared: Arc::new(Shared {
                admission,
                queue,
                times,
                progress,
                embedding: Arc::new(Semaphore::new(MOST_EMBEDDING)),
                max_wait: config.max_wait,
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

    /// Returns [`Base::arithmetic`].
    pub fn arithmetic(&self) -> &str {
        &self.shared.arithmetic
    }

    /// Returns features of pictures, the base's own or a branch's, computed between two batches.
    ///
    /// For work that no request waits for. Blocks.
    ///
    /// # Errors
    /// If the engine shuts down first, or the forward pass fails.
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

    /// Loads a deep head's private layers onto the device between two batches. Blocks.
    ///
    /// # Errors
    /// If the layers exceed the budget ([`LoadBranchError::OverBudget`]) or do not fit this base,
    /// or if the engine is shut down.
    pub fn load_branch(&self, weights: BranchWeights) -> Result<LoadedBranch, LoadBranchError> {
        branch_budget::load(&self.shared.branches, &self.shared.queue, weights)
    }

    /// Returns the unused bytes of the budget for deep heads.
    pub fn free_branch_bytes(&self) -> u64 {
        self.shared.branches.free()
    }

    /// Returns whether the device works, what it does, and whether the queue moves.
    pub fn status(&self, now: Instant) -> EngineStatus {
        let Shared { admission, queue, progress, .. } = &*self.shared;
        // What waits for the device does not move during a pass, and need not.
        let prepared = queue.prepared_wait_since().and_then(|since| progress.idle_since(since));
        let waits_since = [queue.arrivals_wait_since(), prepared].into_iter().flatten().min();
        EngineStatus {
            device_lost: !admission.device_works(),
            device_ended: admission.device_has_ended(),
            running: progress.oldest(now),
            stalled: waits_since.map(|since| now.saturating_duration_since(since)),
        }
    }

    /// Runs a forward pass between two batches to find out whether a lost device is back.
    ///
    /// Returns at once; the [`status`](Self::status) then tells. Does nothing during a trial.
    pub fn try_device(&self) {
        let admission = self.shared.admission.clone();
        if !admission.begin_trial() {
            return;
        }
        let (trial, _unused) =
            BackgroundJob::new(move |base| device_thread::try_device(base, &admission));
        // Fails only once the queue is closed, when nothing is tried any more.
        let _closed = self.shared.queue.push_background(trial);
    }

    /// Reserves room for a picture of `bytes` to be classified by these heads, at least one.
    ///
    /// It takes one image's room for each distinct preprocessing, in the flow of the first head's
    /// task.
    ///
    /// # Errors
    /// At once, before any work: no room, too late, draining, device lost, or too large to fit.
    pub fn try_reserve(
        &self,
        heads: Vec<Arc<Head>>,
        bytes: usize,
        deadline: Option<Instant>,
    ) -> Result<Reservation, EngineError> {
        self.reserve(heads, bytes, deadline, false)
    }

    /// Reserves as [`try_reserve`](Self::try_reserve), also after
    /// [`stop_accepting`](Self::stop_accepting).
    ///
    /// For requests that were sent before.
    ///
    /// # Errors
    /// As [`try_reserve`](Self::try_reserve), except that draining is none.
    pub fn try_reserve_sent_before(
        &self,
        heads: Vec<Arc<Head>>,
        bytes: usize,
        deadline: Option<Instant>,
    ) -> Result<Reservation, EngineError> {
        self.reserve(heads, bytes, deadline, true)
    }

    fn reserve(
        &self,
        heads: Vec<Arc<Head>>,
        bytes: usize,
        deadline: Option<Instant>,
        sent_before: bool,
    ) -> Result<Reservation, EngineError> {
        let Some(first) = heads.first() else {
            return Err(EngineError::Failed { detail: "reservation without a head".to_owned() });
        };
        let images = decode::different_preprocesses(&heads).0.len();
        let task = &first.task;
        let request = ReserveRequest { task, images, bytes, deadline, sent_before };
        let Shared { admission, queue, times, .. } = &*self.shared;
        let permit = admission.try_reserve(&request, &lock(times), Instant::now())?;
        let deadline = deadline.or_else(|| Instant::now().checked_add(self.shared.max_wait));
        Ok(Reservation { heads, deadline, permit, queue: queue.clone() })
    }

    /// Refuses new requests from now on; accepted ones continue.
    pub fn stop_accepting(&self) {
        self.shared.admission.stop_accepting();
    }

    /// Waits until every accepted request is answered.
    pub async fn drained(&self) {
        self.shared.admission.drained().await;
    }

    /// Ends the threads after the running forward pass. Blocks until then.
    ///
    /// Queued requests are answered with [`EngineError::Draining`].
    pub fn shut_down(&self) {
        self.stop_accepting();
        self.shared.queue.close();
        let threads = std::mem::take(&mut *lock(&self.shared.threads));
        for thread in threads.decode.into_iter().chain(threads.device) {
            if thread.join().is_err() {
                tracing::error!("engine thread panicked");
            }
        }
    }
}

impl Reservation {
    /// Decodes, preprocesses and classifies a picture.
    ///
    /// Dropping the future cancels the request and ends the reservation at once.
    pub async fn classify(self, request: Request) -> Result<Answer, EngineError> {
        let (reply, answer) = oneshot::channel();
        let deadline = self.deadline;
        let job = Job::new(self.heads, deadline, request.want_features, reply, self.permit);
        let arrival = ClassifyArrival { job, source: request.source, roi: request.roi };
        self.queue.answer_of(Arrival::Classify(arrival), answer, deadline).await
    }
}
