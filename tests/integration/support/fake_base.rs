//! A base that the test controls: features are known functions of the pixels; passes can be held,
//! fail or panic.

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use turret::{
    base::{
        Base, BaseError, BaseIdentity, BranchError, BranchId, BranchWeights, FeatureBatch,
        FeatureWidths, ForwardOutput, ForwardRequest, Outputs, PassStatus,
    },
    ids::Digest,
    image::PreparedImage,
};

/// The one branch tensor that this base takes: a number that replaces the 1 in its features.
pub(crate) const BRANCH_TENSOR: &str = "layer4.offset";

/// A base whose `gap` is `[mean red, mean green, mean blue, 1, 0, ...]`, with means in 0..1.
///
/// `pyramid` is `gap` twice.
#[derive(Debug)]
pub(crate) struct FakeBase {
    identity: BaseIdentity,
    gap_width: usize,
    pass_takes: Duration,
    next_branch: u64,
    /// Outputs of the passes in flight.
    streams: Vec<Option<ForwardOutput>>,
    control: Arc<Control>,
}

#[derive(Debug, Default)]
pub(crate) struct Control {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    held: bool,
    /// Number of passes that go through although passes are held.
    let_through: usize,
    waiting: bool,
    behaviour: Behaviour,
    /// Images of each forward pass, each as its mean red in 0..=255, rounded.
    passes: Vec<Vec<u8>>,
    branches: HashMap<BranchId, f32>,
    most_branches: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    #[default]
    Well,
    Fail,
    Panic,
    /// Panics where nothing catches it: the device thread ends.
    End,
}

pub(crate) const GAP_WIDTH: usize = 4;

pub(crate) fn identity() -> BaseIdentity {
    BaseIdentity { architecture: "fake".to_owned(), digest: Digest::of(b"fake base") }
}

impl FakeBase {
    pub(crate) fn new() -> (Self, Arc<Control>) {
        Self::with_width(GAP_WIDTH)
    }

    pub(crate) fn with_width(gap_width: usize) -> (Self, Arc<Control>) {
        let control = Arc::new(Control::default());
        let base = Self {
            identity: identity(),
            gap_width,
            pass_takes: Duration::ZERO,
            next_branch: 0,
            streams: Vec::new(),
            control: control.clone(),
        };
        (base, control)
    }

    /// Makes every pass take at least this long.
    pub(crate) fn with_passes_of(self, pass_takes: Duration) -> Self {
        Self { pass_takes, ..self }
    }

    /// Allows `count` passes in flight; each is held, fails or panics in `finish`.
    pub(crate) fn with_in_flight(self, count: usize) -> Self {
        Self { streams: vec![None; count], ..self }
    }

    /// Computes the features of a pass and records the pass at once.
    fn compute(&self, images: &[&PreparedImage], outputs: Outputs) -> FeatureBatch {
        let means: Vec<[f32; 3]> = images.iter().map(|image| mean_colour(image)).collect();
        let reds = means.iter().map(|mean| (mean[0] * 255.0).round() as u8).collect();
        self.control.state.lock().unwrap().passes.push(reds);
        let mut batch = FeatureBatch::default();
        for [red, green, blue] in means {
            let mut row = vec![red, green, blue, 1.0];
            row.resize(self.gap_width, 0.0);
            batch.gap.extend(&row);
            if outputs.pyramid {
                batch.pyramid.extend(row.iter().chain(&row));
            }
        }
        batch
    }
}

impl Control {
    /// Makes forward passes wait until [`release`](Self::release).
    pub(crate) fn hold(&self) {
        self.state.lock().unwrap().held = true;
    }

    /// Lets one held forward pass end; the next is held again.
    pub(crate) fn release_one(&self) {
        self.state.lock().unwrap().let_through += 1;
        self.changed.notify_all();
    }

    /// Holds a forward pass, then lets it succeed, fail or panic.
    fn wait(&self) -> Result<(), BaseError> {
        let mut state = self.state.lock().unwrap();
        while state.held && state.let_through == 0 {
            state.waiting = true;
            state = self.changed.wait(state).unwrap();
        }
        state.waiting = false;
        state.let_through = state.let_through.saturating_sub(1);
        let behaviour = state.behaviour;
        drop(state);
        match behaviour {
            Behaviour::Well => Ok(()),
            Behaviour::Fail => {
                Err(BaseError::Device { detail: "told to fail: secret detail".to_owned() })
            }
            Behaviour::Panic | Behaviour::End => panic!("told to panic"),
        }
    }

    pub(crate) fn release(&self) {
        self.state.lock().unwrap().held = false;
        self.changed.notify_all();
    }

    /// Returns once a forward pass is held.
    pub(crate) async fn is_holding(&self) {
        super::eventually("a forward pass is held", async || self.state.lock().unwrap().waiting)
            .await;
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        self.state.lock().unwrap().behaviour = behaviour;
    }

    /// Returns the images of each forward pass since the warm-up.
    pub(crate) fn passes(&self) -> Vec<Vec<u8>> {
        self.state.lock().unwrap().passes.clone()
    }

    /// Returns the number of branches on the device now, and its maximum so far.
    pub(crate) fn branches(&self) -> (usize, usize) {
        let state = self.state.lock().unwrap();
        (state.branches.len(), state.most_branches)
    }

    pub(crate) fn forget_warm_up(&self) {
        self.state.lock().unwrap().passes.clear();
    }
}

impl Base for FakeBase {
    fn arithmetic(&self) -> &str {
        "exact"
    }

    fn identity(&self) -> &BaseIdentity {
        &self.identity
    }

    fn widths(&self) -> FeatureWidths {
        FeatureWidths { gap: self.gap_width, pyramid: 2 * self.gap_width }
    }

    fn forward(
        &mut self,
        images: &[&PreparedImage],
        outputs: Outputs,
    ) -> Result<FeatureBatch, BaseError> {
        std::thread::sleep(self.pass_takes);
        let batch = self.compute(images, outputs);
        self.control.wait()?;
        Ok(batch)
    }

    fn in_flight(&self) -> usize {
        let ends = self.control.state.lock().unwrap().behaviour == Behaviour::End;
        assert!(!ends, "told to end the device thread");
        self.streams.len().max(1)
    }

    fn begin(
        &mut self,
        images: &[&PreparedImage],
        request: ForwardRequest<'_>,
    ) -> Result<PassStatus, BaseError> {
        match self.streams.iter().position(Option::is_none) {
            Some(stream) => {
                let own = self.compute(images, request.outputs);
                self.streams[stream] = Some(ForwardOutput { own, branches: Vec::new() });
                Ok(PassStatus::Running(stream))
            }
            None => Ok(PassStatus::Done(self.forward_branches(images, request)?)),
        }
    }

    fn finish(&mut self, stream: usize) -> Result<ForwardOutput, BaseError> {
        let output = self.streams[stream].take().ok_or(BaseError::NothingRuns { stream })?;
        self.control.wait()?;
        Ok(output)
    }

    fn forward_branches(
        &mut self,
        images: &[&PreparedImage],
        request: ForwardRequest<'_>,
    ) -> Result<ForwardOutput, BaseError> {
        let own = self.forward(images, request.outputs)?;
        let offsets = self.control.state.lock().unwrap().branches.clone();
        let branches = request.branches.iter();
        let branches = branches
            .map(|rows| gathered(&own, &rows.images, self.gap_width, offsets[&rows.branch]));
        Ok(ForwardOutput { branches: branches.collect(), own })
    }

    fn load_branch(&mut self, weights: &BranchWeights) -> Result<BranchId, BaseError> {
        let Some(offset) = weights.tensors.get(BRANCH_TENSOR) else {
            return Err(BranchError::Missing { name: BRANCH_TENSOR.to_owned() }.into());
        };
        let id = BranchId(self.next_branch);
        self.next_branch += 1;
        let mut state = self.control.state.lock().unwrap();
        state.branches.insert(id, offset.values[0]);
        state.most_branches = state.most_branches.max(state.branches.len());
        Ok(id)
    }

    fn unload_branch(&mut self, id: BranchId) {
        self.control.state.lock().unwrap().branches.remove(&id);
    }
}

fn gathered(batch: &FeatureBatch, images: &[usize], width: usize, offset: f32) -> FeatureBatch {
    let rows = |values: &[f32], width: usize| -> Vec<f32> {
        images
            .iter()
            .flat_map(|image| values[image * width..(image + 1) * width].to_vec())
            .collect()
    };
    let mut gap = rows(&batch.gap, width);
    gap.chunks_exact_mut(width).for_each(|row| row[3] = offset);
    let pyramid = gap.chunks_exact(width).flat_map(|row| [row, row].concat()).collect();
    FeatureBatch { gap, pyramid, ..FeatureBatch::default() }
}

fn mean_colour(image: &PreparedImage) -> [f32; 3] {
    let (pixels, _) = image.pixels.as_chunks::<3>();
    let sum = pixels
        .iter()
        .fold([0u64; 3], |sum, pixel| std::array::from_fn(|c| sum[c] + u64::from(pixel[c])));
    sum.map(|sum| sum as f32 / pixels.len() as f32 / 255.0)
}
