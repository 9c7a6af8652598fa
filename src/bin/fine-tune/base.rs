//! The base that a command runs, and where its features are kept.

use std::path::PathBuf;

use anyhow::Context;
use turret::{
    base::{Base, BaseWeights, Device, Network, PrecisionChoice, set_cpu_threads},
    config::{
        Count,
        settings::{Reader, Setting},
    },
};

use crate::remote::RemoteBase;

pub(crate) const BASE: Setting = Setting::new("base", "FILE", "base file, as `turret base import` writes it");
pub(crate) const SERVER: Setting = Setting::new(
    "server",
    "URL",
    "instead of --base: a running server whose base computes the features, such as http://127.0.0.1:50051",
);
pub(crate) const CACHE: Setting =
    Setting::new("cache", "DIR", "folder of the feature cache [default: turret in the user's cache folder]");
pub(crate) const NO_CACHE: Setting = Setting::switch("no-cache", "keep no features between runs");
pub(crate) const DEVICE: Setting =
    Setting::new("device", "DEVICE", "where the base runs: auto, cpu or cuda:N").default("auto");
pub(crate) const PRECISION: Setting = Setting::new(
    "precision",
    "NAME",
    "arithmetic of the base, best the server's: auto, fp32, bf16, fp16 or int8",
)
.default("auto");
pub(crate) const THREADS: Setting =
    Setting::new("threads", "N", "threads of the base on the CPU; auto: one a processor").default("auto");

#[derive(Debug)]
pub(crate) struct BaseRun {
    place: Place,
    device: Device,
    precision: PrecisionChoice,
    threads: usize,
}

#[derive(Debug)]
enum Place {
    File(PathBuf),
    Server(String),
}

/// A base to train with.
pub(crate) struct LoadedBase {
    pub(crate) base: Box<dyn Base>,
    /// Of a file alone.
    pub(crate) weights: Option<BaseWeights>,
    pub(crate) origin: String,
}

impl BaseRun {
    /// Reads [`BASE`], [`SERVER`], [`DEVICE`], [`PRECISION`] and [`THREADS`].
    pub(crate) fn read(reader: &mut Reader) -> Option<Self> {
        let file = reader.optional("base").map(Place::File);
        let server = reader.optional("server").map(Place::Server);
        if file.is_some() == server.is_some() {
            reader.refuse("base", "give either --base FILE or --server URL");
        }
        let place = file.or(server);
        let device = reader.get("device");
        let precision = reader.get("precision");
        let threads = reader.get::<Count>("threads");
        Some(Self { place: place?, device: device?, precision: precision?, threads: threads?.0 })
    }

    /// The base, ready to run.
    pub(crate) fn load(&self) -> anyhow::Result<LoadedBase> {
        set_cpu_threads(self.threads);
        match &self.place {
            Place::File(path) => {
                let weights = BaseWeights::load(path)?;
                let base = Network::new(&weights, self.device, self.precision)
                    .with_context(|| format!("cannot run {} here", path.display()))?;
                let origin = weights.origin().to_owned();
                Ok(LoadedBase { base: Box::new(base), weights: Some(weights), origin })
            }
            Place::Server(url) => {
                let base = Box::new(RemoteBase::connect(url)?);
                Ok(LoadedBase { base, weights: None, origin: format!("the base of {url}") })
            }
        }
    }
}

/// Reads [`CACHE`] and [`NO_CACHE`].
pub(crate) fn cache(reader: &mut Reader) -> Option<PathBuf> {
    let cache = reader.optional("cache").or_else(default_cache);
    if reader.switch("no-cache") { None } else { cache }
}

/// `$XDG_CACHE_HOME/turret`, else `~/.cache/turret` (XDG Base Directory Specification); `None` without a home.
fn default_cache() -> Option<PathBuf> {
    let named = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let at_home = || Some(std::env::home_dir()?.join(".cache"));
    named.or_else(at_home).map(|folder| folder.join("turret"))
}
