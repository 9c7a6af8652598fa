//! The base that a command runs, and the cache of its features.

use std::path::{Path, PathBuf};

use anyhow::Context;
#[cfg(not(feature = "torch"))]
use turret::base::BuiltWithoutLibtorch;
use turret::{
    base::{Base, BaseWeights, Device, PrecisionChoice},
    config::{
        Count,
        settings::{Setting, SettingsReader},
    },
};
use turret_client::ServerUrl;

use crate::remote::RemoteBase;

pub(crate) const BASE: Setting =
    Setting::new("base", "FILE", "Base file, as `turret base import` writes it");
pub(crate) const SERVER: Setting = Setting::new(
    "server",
    "ADDRESS",
    "Instead of --base: a running server whose base computes the features, HOST:PORT or :PORT",
);
pub(crate) const CACHE: Setting = Setting::new(
    "cache",
    "DIR",
    "Folder of the feature cache [default: turret in the user's cache folder]",
);
pub(crate) const NO_CACHE: Setting =
    Setting::switch("no-cache", "Do not keep features between runs");
pub(crate) const DEVICE: Setting =
    Setting::new("device", "DEVICE", "Where the base runs: auto, cpu or cuda:N").default("auto");
pub(crate) const PRECISION: Setting = Setting::new(
    "precision",
    "NAME",
    "Arithmetic of the base, preferably the server's: auto, fp32, bf16, fp16 or int8",
)
.default("auto");
pub(crate) const THREADS: Setting =
    Setting::new("threads", "N", "Threads of the base on the CPU; auto: one per processor")
        .default("auto");

/// Which base to run, and how.
#[derive(Debug)]
#[cfg_attr(not(feature = "torch"), expect(dead_code, reason = "only a local base needs them"))]
pub(crate) struct BaseRun {
    source: BaseSource,
    device: Device,
    precision: PrecisionChoice,
    threads: usize,
}

#[derive(Debug)]
enum BaseSource {
    File(PathBuf),
    Server(ServerUrl),
}

/// A base that is ready to run.
pub(crate) struct LoadedBase {
    pub(crate) base: Box<dyn Base>,
    /// `None` for the base of a server.
    pub(crate) weights: Option<BaseWeights>,
    pub(crate) origin: String,
}

impl BaseRun {
    /// Reads [`BASE`], [`SERVER`], [`DEVICE`], [`PRECISION`] and [`THREADS`].
    pub(crate) fn read(reader: &mut SettingsReader) -> Option<Self> {
        let file = reader.optional("base").map(BaseSource::File);
        let server = reader.optional("server").map(BaseSource::Server);
        let given = reader.in_force();
        if given.contains_key("base") == given.contains_key("server") {
            reader.refuse("base", "give either --base FILE or --server ADDRESS");
        }
        let source = file.or(server);
        let device = reader.get("device");
        let precision = reader.get("precision");
        let threads = reader.get::<Count>("threads");
        Some(Self { source: source?, device: device?, precision: precision?, threads: threads?.0 })
    }

    /// Loads the base file, or connects to the server.
    pub(crate) fn load(&self) -> anyhow::Result<LoadedBase> {
        match &self.source {
            BaseSource::File(path) => self.load_file(path),
            BaseSource::Server(url) => {
                let base = Box::new(RemoteBase::connect(url)?);
                Ok(LoadedBase { base, weights: None, origin: format!("the base of {url}") })
            }
        }
    }

    #[cfg(feature = "torch")]
    fn load_file(&self, path: &Path) -> anyhow::Result<LoadedBase> {
        turret::torch::set_cpu_threads(self.threads);
        let weights = BaseWeights::load(path)?;
        let base = turret::torch::Network::new(&weights, self.device, self.precision)
            .with_context(|| format!("cannot run {}", path.display()))?;
        let origin = weights.origin().to_owned();
        Ok(LoadedBase { base: Box::new(base), weights: Some(weights), origin })
    }

    #[cfg(not(feature = "torch"))]
    fn load_file(&self, path: &Path) -> anyhow::Result<LoadedBase> {
        Err(BuiltWithoutLibtorch).with_context(|| {
            format!("cannot run {} (use --server to compute on a running server)", path.display())
        })
    }
}

/// Reads [`CACHE`] and [`NO_CACHE`].
pub(crate) fn cache(reader: &mut SettingsReader) -> Option<PathBuf> {
    let cache = reader.optional("cache").or_else(default_cache);
    if reader.switch("no-cache") { None } else { cache }
}

/// Returns the cache folder of the XDG Base Directory Specification.
///
/// `$XDG_CACHE_HOME/turret`, else `~/.cache/turret`; `None` without a home folder.
fn default_cache() -> Option<PathBuf> {
    let named =
        std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let at_home = || Some(std::env::home_dir()?.join(".cache"));
    named.or_else(at_home).map(|folder| folder.join("turret"))
}
