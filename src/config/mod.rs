//! What `turret serve` can be told, and what it makes of it.

pub mod settings;

use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use bytesize::ByteSize;
use clap::ArgMatches;

use crate::{
    base::{Device, PrecisionChoice},
    engine::{BatchSizes, EngineConfig},
    grpc::GrpcLimits,
    image::ImageLimits,
    server::ServerConfig,
};
use settings::{ConfigMistakes, Setting, SettingsReader};

/// Every setting of `turret serve`. The README's table is made of these; a test keeps it so.
pub const SERVE: &[Setting] = &[
    Setting::new("base", "FILE", "Base file, as `turret base import` writes it"),
    Setting::new("heads", "DIR", "Folder of heads, as `fine-tune` publishes them"),
    Setting::new("listen", "ADDRESS", "Where gRPC is served").default("127.0.0.1:50051"),
    Setting::new("admin", "ADDRESS", "Where /metrics, /livez and /readyz are served")
        .default("127.0.0.1:9090"),
    Setting::new("device", "DEVICE", "Where the base runs: auto, cpu or cuda:N").default("auto"),
    Setting::new("precision", "NAME", "Arithmetic of the base: auto, fp32, bf16, fp16 or int8")
        .default("auto"),
    Setting::new("threads", "N", "Threads of one forward pass on the CPU; auto: one a processor")
        .default("auto"),
    Setting::new("decode-threads", "N", "Threads that decode pictures; auto: one a processor")
        .default("auto"),
    Setting::new("max-batch", "N", "Most images in one forward pass; auto: 8 on the CPU, 64 with CUDA")
        .default("auto"),
    Setting::new(
        "max-delay",
        "TIME",
        "How long an idle device waits to fill the largest batch; 0ms: never, and batches are no larger than pays",
    )
    .default("0ms"),
    Setting::new("queue-images", "N", "Most images accepted and not yet answered").default("256"),
    Setting::new("queue-bytes", "SIZE", "Most bytes of pictures accepted and not yet answered")
        .default("512MiB"),
    Setting::new("deep-head-budget", "SIZE", "Most bytes of deep heads' own layers on the device, counted in f32")
        .default("1GiB"),
    Setting::new("max-message", "SIZE", "Largest request").default("64MiB"),
    Setting::new("max-pixels", "N", "Largest picture, in pixels").default("100000000"),
    Setting::new("rescan", "TIME", "Look at the heads at least so often, also without file events")
        .default("5s"),
    Setting::new("drain", "TIME", "How long accepted requests may take after SIGTERM").default("20s"),
    Setting::new("log", "FILTER", "What is logged: error, warn, info, debug or a filter by module")
        .default("info"),
    Setting::new("log-format", "FORMAT", "How it is logged: text or json").default("text"),
];

/// The settings of `turret serve`, checked.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    pub base: PathBuf,
    pub device: Device,
    pub precision: PrecisionChoice,
    /// Goes into the engine's settings when the device is known.
    pub max_batch: MaxBatch,
    pub threads: usize,
    pub log: String,
    pub log_format: LogFormat,
    pub server: ServerConfig,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

/// The most images in one forward pass; none: what suits the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxBatch(pub Option<usize>);

/// A number of threads: `auto` is one a processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count(pub usize);

impl ServeConfig {
    /// # Errors
    /// Every mistake at once, each with the place where it was made.
    pub fn from_matches(matches: &ArgMatches) -> Result<Self, ConfigMistakes> {
        let mut reader = SettingsReader::gather(SERVE, matches);
        let config = Self::read(&mut reader);
        reader.finish(config)
    }

    fn read(reader: &mut SettingsReader) -> Option<Self> {
        // Everything is read before anything is given up, so that all mistakes are found.
        let base = reader.get("base");
        let heads = reader.get("heads");
        let listen = reader.get::<SocketAddr>("listen");
        let admin = reader.get::<SocketAddr>("admin");
        let device = reader.get::<Device>("device");
        let precision = reader.get::<PrecisionChoice>("precision");
        let threads = reader.get::<Count>("threads");
        let decode_threads = reader.get::<Count>("decode-threads");
        let max_batch = reader.get::<MaxBatch>("max-batch");
        let max_delay = reader.get::<humantime::Duration>("max-delay");
        let max_queue_images = reader.get_where("queue-images", "1 or more", |n| *n >= 1);
        let queue_bytes = reader.get::<ByteSize>("queue-bytes");
        let deep_head_budget = reader.get::<ByteSize>("deep-head-budget");
        let max_message = reader.get_where("max-message", "1KiB to 2GiB", |size: &ByteSize| {
            (ByteSize::kib(1)..=ByteSize::gib(2)).contains(size)
        });
        let max_pixels = reader.get_where("max-pixels", "1 or more", |n| *n >= 1);
        let rescan = reader.get_where("rescan", "10ms or more", |time: &humantime::Duration| {
            **time >= Duration::from_millis(10)
        });
        let drain = reader.get::<humantime::Duration>("drain");
        let log = reader.get("log");
        let log_format = reader.get("log-format");
        let max_message_bytes = usize::try_from(max_message?.as_u64()).ok()?;
        let limits = ImageLimits {
            max_encoded_bytes: max_message_bytes,
            max_pixels: max_pixels?,
            ..ImageLimits::default()
        };
        Some(Self {
            base: base?,
            device: device?,
            precision: precision?,
            max_batch: max_batch?,
            threads: threads?.0,
            log: log?,
            log_format: log_format?,
            server: ServerConfig {
                listen: listen?,
                admin: admin?,
                heads: heads?,
                rescan: rescan?.into(),
                drain: drain?.into(),
                engine: EngineConfig {
                    batch_sizes: max_batch?.sizes(false),
                    max_delay: max_delay?.into(),
                    max_queue_images: max_queue_images?,
                    max_queue_bytes: usize::try_from(queue_bytes?.as_u64()).ok()?,
                    decode_threads: decode_threads?.0,
                    deep_head_budget: deep_head_budget?.as_u64(),
                    limits,
                },
                grpc: GrpcLimits { max_message_bytes, ..GrpcLimits::default() },
            },
        })
    }
}

/// Processors that this process may use, cgroup limits respected.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

impl MaxBatch {
    /// The CPU computes one image about as fast as eight together; a GPU needs many to be busy.
    pub fn sizes(self, with_cuda: bool) -> BatchSizes {
        BatchSizes::up_to(self.0.unwrap_or(if with_cuda { 64 } else { 8 }))
    }
}

impl FromStr for MaxBatch {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "auto" {
            return Ok(Self(None));
        }
        let number = text.parse().ok().filter(|number| (1..=1024).contains(number));
        number.map(|number| Self(Some(number))).ok_or("auto or 1 to 1024 is wanted")
    }
}

impl FromStr for Count {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let count = if text == "auto" { Some(processors()) } else { text.parse().ok() };
        count
            .filter(|count| (1..=1024).contains(count))
            .map(Self)
            .ok_or("auto or 1 to 1024 is wanted")
    }
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("text or json is wanted"),
        }
    }
}
