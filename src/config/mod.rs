//! The settings of `turret serve`, and the configuration made from them.

mod listen;
pub mod settings;

use std::{path::PathBuf, str::FromStr, time::Duration};

use bytesize::ByteSize;
use clap::ArgMatches;

use tracing_subscriber::EnvFilter;

use crate::{
    base::{Device, PrecisionChoice},
    engine::{BatchSizes, EngineConfig},
    grpc::{GrpcLimits, VerdictLog},
    health::HealthBounds,
    image::ImageLimits,
    log::LogFormat,
    metrics::DroppedLines,
    server::ServerConfig,
    store::HeadStore,
};
use listen::ListenAddress;
use settings::{ConfigMistakes, Setting, SettingsReader};

/// Every setting of `turret serve`; a test compares the table in the documentation with it.
pub const SERVE: &[Setting] = &[
    Setting::new("base", "FILE", "Base file written by `turret base import`"),
    Setting::new("heads", "DIR", "Folder to which `fine-tune` publishes heads"),
    Setting::new("listen", "ADDRESS", "Address of the gRPC port: HOST:PORT or :PORT")
        .default("127.0.0.1:50051"),
    Setting::new("admin", "ADDRESS", "Address of the admin port: /metrics, /livez and /readyz")
        .default("127.0.0.1:9090"),
    Setting::new("device", "DEVICE", "Device of the base: auto, cpu or cuda:N").default("auto"),
    Setting::new("precision", "NAME", "Arithmetic of the base: auto, fp32, bf16, fp16 or int8")
        .default("auto"),
    Setting::new("threads", "N", "Threads of one forward pass on the CPU; auto: one per processor")
        .default("auto"),
    Setting::new("decode-threads", "N", "Threads that decode pictures; auto: one per processor")
        .default("auto"),
    Setting::new("decode-bytes", "SIZE", "Maximum bytes that decoding holds, over all its threads")
        .default("1GiB"),
    Setting::new(
        "max-batch",
        "N",
        "Maximum images in one forward pass; auto: 8 on the CPU, 64 with CUDA",
    )
    .default("auto"),
    Setting::new(
        "max-delay",
        "TIME",
        "How long an idle device waits to fill the largest batch; \
         0ms: never, and batches are only as large as worthwhile",
    )
    .default("0ms"),
    Setting::new("queue-images", "N", "Maximum images accepted and not yet answered")
        .default("256"),
    Setting::new("queue-bytes", "SIZE", "Maximum bytes of pictures accepted and not yet answered")
        .default("512MiB"),
    Setting::new(
        "deep-head-budget",
        "SIZE",
        "Maximum bytes of deep heads' private layers on the device, counted in f32",
    )
    .default("1GiB"),
    Setting::new(
        "max-wait",
        "TIME",
        "How long a request without a deadline may wait for its answer",
    )
    .default("60s"),
    Setting::new("max-message", "SIZE", "Maximum size of a request").default("64MiB"),
    Setting::new(
        "receive-bytes",
        "SIZE",
        "Maximum bytes of requests that are being received, over all connections",
    )
    .default("1GiB"),
    Setting::new("max-connections", "N", "Maximum open connections; more wait until one ends")
        .default("128"),
    Setting::new(
        "max-connection-age",
        "TIME",
        "Age at which a connection is asked to close, so that new servers get their share",
    )
    .default("1h"),
    Setting::new(
        "max-connection-grace",
        "TIME",
        "How long the requests and streams of a connection may then take",
    )
    .default("12h"),
    Setting::new("max-pixels", "N", "Maximum size of a picture, in pixels").default("100000000"),
    Setting::new("rescan", "TIME", "Interval of scanning the heads, even without file events")
        .default("5s"),
    Setting::new("drain", "TIME", "How long accepted requests may take after SIGTERM")
        .default("20s"),
    Setting::new("log", "FILTER", "Log level: error, warn, info, debug or a filter by module")
        .default("info"),
    Setting::new("log-format", "FORMAT", "Log format: text or json").default("text"),
    Setting::new(
        "log-verdicts",
        "WHICH",
        "Verdicts that are logged if the request has a part_id: all, rejects (all but PASS) or off",
    )
    .default("all"),
];

/// The validated settings of `turret serve`.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    pub base: PathBuf,
    pub device: Device,
    pub precision: PrecisionChoice,
    /// Becomes the engine's batch sizes once the device is known.
    pub max_batch: MaxBatch,
    pub threads: usize,
    pub log: String,
    pub log_format: LogFormat,
    pub server: ServerConfig,
}

/// The maximum number of images in one forward pass; `None` leaves the choice to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxBatch(pub Option<usize>);

/// A number of threads; `auto` is one per processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count(pub usize);

impl ServeConfig {
    /// Reads and validates every setting.
    ///
    /// # Errors
    /// Every mistake at once, each with its source.
    pub fn from_matches(matches: &ArgMatches) -> Result<Self, ConfigMistakes> {
        let mut reader = SettingsReader::gather(SERVE, matches);
        let config = Self::read(&mut reader);
        reader.finish(config)
    }

    fn read(reader: &mut SettingsReader) -> Option<Self> {
        // Reads every setting before the first `?`, so that all mistakes are reported.
        let base = reader.get("base");
        let heads = reader.get::<PathBuf>("heads");
        let listen = reader.get::<ListenAddress>("listen");
        let admin = reader.get::<ListenAddress>("admin");
        let device = reader.get::<Device>("device");
        let precision = reader.get::<PrecisionChoice>("precision");
        let threads = reader.get::<Count>("threads");
        let decode_threads = reader.get::<Count>("decode-threads");
        let decode_bytes =
            reader.get_where("decode-bytes", "512MiB or more, such as 1GiB", |size: &ByteSize| {
                size.as_u64() >= ImageLimits::default().max_decoded_bytes
            });
        let max_batch = reader.get::<MaxBatch>("max-batch");
        let max_delay =
            reader.get_expecting::<humantime::Duration>("max-delay", "a time, such as 2ms");
        let max_queue_images =
            reader.get_where("queue-images", "1 or more, such as 256", |n| *n >= 1);
        let queue_bytes = reader.get_expecting::<ByteSize>("queue-bytes", "a size, such as 512MiB");
        let deep_head_budget =
            reader.get_expecting::<ByteSize>("deep-head-budget", "a size, such as 1GiB");
        let max_wait = reader.get_where(
            "max-wait",
            "a time of 10ms to 1day, such as 60s",
            |time: &humantime::Duration| {
                (Duration::from_millis(10)..=Duration::from_secs(86_400)).contains(&**time)
            },
        );
        let max_message =
            reader.get_where("max-message", "1KiB to 2GiB, such as 64MiB", |size: &ByteSize| {
                (ByteSize::kib(1)..=ByteSize::gib(2)).contains(size)
            });
        let receive_bytes =
            reader.get_where("receive-bytes", "1KiB to 1TiB, such as 1GiB", |size: &ByteSize| {
                (ByteSize::kib(1)..=ByteSize::tib(1)).contains(size)
            });
        let max_connections =
            reader.get_where("max-connections", "1 to 1000000, such as 128", |n: &usize| {
                (1..=1_000_000).contains(n)
            });
        let max_connection_age = reader.get_where("max-connection-age", AGE, age_is_valid);
        let max_connection_grace = reader.get_where("max-connection-grace", AGE, age_is_valid);
        let max_pixels =
            reader.get_where("max-pixels", "1 or more, such as 100000000", |n| *n >= 1);
        let rescan = reader.get_where(
            "rescan",
            "a time of 10ms or more, such as 5s",
            |time: &humantime::Duration| **time >= Duration::from_millis(10),
        );
        let drain = reader.get_expecting::<humantime::Duration>("drain", "a time, such as 20s");
        let log = reader.get_where(
            "log",
            "a level such as info, or a filter such as \"info,turret::engine=debug\"",
            |filter: &String| !filter.trim().is_empty() && EnvFilter::try_new(filter).is_ok(),
        );
        let log_format = reader.get("log-format");
        let verdict_log = reader.get::<VerdictLog>("log-verdicts");
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
                listen: listen?.0,
                admin: admin?.0,
                heads: HeadStore::new(heads?),
                rescan: rescan?.into(),
                health: HealthBounds::default(),
                drain: drain?.into(),
                engine: EngineConfig {
                    batch_sizes: max_batch?.sizes(false),
                    max_delay: max_delay?.into(),
                    max_queue_images: max_queue_images?,
                    max_queue_bytes: usize::try_from(queue_bytes?.as_u64()).ok()?,
                    decode_threads: decode_threads?.0,
                    max_decode_bytes: decode_bytes?.as_u64(),
                    deep_head_budget: deep_head_budget?.as_u64(),
                    max_wait: max_wait?.into(),
                    limits,
                },
                grpc: GrpcLimits {
                    max_message_bytes,
                    max_receive_bytes: usize::try_from(receive_bytes?.as_u64()).ok()?,
                    max_connections: max_connections?,
                    max_connection_age: max_connection_age?.into(),
                    max_connection_grace: max_connection_grace?.into(),
                },
                verdict_log: verdict_log?,
                dropped_lines: DroppedLines::default(),
            },
        })
    }
}

const AGE: &str = "a time from 1s to 1year, such as 1h";

/// Tells whether timers can count so long.
fn age_is_valid(time: &humantime::Duration) -> bool {
    (Duration::from_secs(1)..=Duration::from_secs(366 * 24 * 60 * 60)).contains(&**time)
}

/// Returns the number of processors that this process may use, within cgroup limits.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

impl MaxBatch {
    /// Returns the batch sizes; a CPU gains little per image from batches, a GPU needs large ones.
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
        number.map(|number| Self(Some(number))).ok_or("expected \"auto\" or 1 to 1024")
    }
}

impl FromStr for Count {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let count = if text == "auto" { Some(processors()) } else { text.parse().ok() };
        count
            .filter(|count| (1..=1024).contains(count))
            .map(Self)
            .ok_or("expected \"auto\" or 1 to 1024")
    }
}
