//! A base that the test controls: its features are a known function of the pixels, and it can be held, fail and panic.

use std::{
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use turret::{
    base::{Base, BaseError, FeatureBatch, Wanted},
    features::{BaseIdentity, FeatureWidths},
    image::PreparedImage,
    task::Digest,
};

/// `gap` is [mean red, mean green, mean blue, 1] in 0..1, then zeros up to the width; `pyramid` is `gap` twice.
#[derive(Debug)]
pub(crate) struct FakeBase {
    identity: BaseIdentity,
    gap_width: usize,
    pass_takes: Duration,
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
    waiting: bool,
    behaviour: Behaviour,
    /// Images of each forward pass, each by its mean red in 0..255, rounded.
    passes: Vec<Vec<u8>>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    #[default]
    Well,
    Fail,
    Panic,
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
        let base =
            Self { identity: identity(), gap_width, pass_takes: Duration::ZERO, control: control.clone() };
        (base, control)
    }

    /// A device on which every pass takes at least so long.
    pub(crate) fn with_passes_of(self, pass_takes: Duration) -> Self {
        Self { pass_takes, ..self }
    }
}

impl Control {
    /// The next forward pass waits until [`release`](Self::release).
    pub(crate) fn hold(&self) {
        self.state.lock().unwrap().held = true;
    }

    pub(crate) fn release(&self) {
        self.state.lock().unwrap().held = false;
        self.changed.notify_all();
    }

    /// Returns when a forward pass is being held.
    pub(crate) async fn is_holding(&self) {
        super::eventually("a forward pass is held", async || self.state.lock().unwrap().waiting).await;
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        self.state.lock().unwrap().behaviour = behaviour;
    }

    /// What each forward pass saw, the warm-up left out.
    pub(crate) fn passes(&self) -> Vec<Vec<u8>> {
        self.state.lock().unwrap().passes.clone()
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

    fn forward(&mut self, images: &[&PreparedImage], wanted: Wanted) -> Result<FeatureBatch, BaseError> {
        std::thread::sleep(self.pass_takes);
        let means: Vec<[f32; 3]> = images.iter().map(|image| mean_colour(image)).collect();
        let behaviour = {
            let mut state = self.control.state.lock().unwrap();
            state.passes.push(means.iter().map(|mean| (mean[0] * 255.0).round() as u8).collect());
            while state.held {
                state.waiting = true;
                state = self.control.changed.wait(state).unwrap();
            }
            state.waiting = false;
            state.behaviour
        };
        match behaviour {
            Behaviour::Well => {}
            Behaviour::Fail => {
                return Err(BaseError::Device { detail: "told to fail: secret detail".to_owned() });
            }
            Behaviour::Panic => panic!("told to panic"),
        }
        let mut batch = FeatureBatch::default();
        for [red, green, blue] in means {
            let mut row = vec![red, green, blue, 1.0];
            row.resize(self.gap_width, 0.0);
            batch.gap.extend(&row);
            if wanted.pyramid {
                batch.pyramid.extend(row.iter().chain(&row));
            }
        }
        Ok(batch)
    }
}

fn mean_colour(image: &PreparedImage) -> [f32; 3] {
    let (pixels, _) = image.pixels.as_chunks::<3>();
    let sum =
        pixels.iter().fold([0u64; 3], |sum, pixel| std::array::from_fn(|c| sum[c] + u64::from(pixel[c])));
    sum.map(|sum| sum as f32 / pixels.len() as f32 / 255.0)
}
