//! A complete server whose base returns at once.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;
use clap::Args;
use turret::{
    base::{Base, BaseError, BaseIdentity, FeatureBatch, FeatureWidths, Outputs},
    config::processors,
    engine::EngineConfig,
    grpc::{GrpcLimits, VerdictLog},
    health::HealthBounds,
    ids::Digest,
    image::PreparedImage,
    metrics::{DroppedLines, Metrics},
    server::{Server, ServerConfig},
    store::HeadStore,
};

/// Feature widths of ResNet34.
pub(crate) const WIDTHS: FeatureWidths = FeatureWidths { gap: 512, pyramid: 1920 };
const ARCHITECTURE: &str = "null";

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    #[arg(long)]
    heads: PathBuf,
}

/// Returns a command that runs this program as a server.
pub(crate) fn command(heads: &Path) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("null-server").arg("--heads").arg(heads);
    Ok(command)
}

/// A base that returns zeros for every picture.
#[derive(Debug)]
struct NullBase(BaseIdentity);

pub(crate) fn identity() -> BaseIdentity {
    BaseIdentity {
        architecture: ARCHITECTURE.to_owned(),
        digest: Digest::of(ARCHITECTURE.as_bytes()),
    }
}

impl Base for NullBase {
    fn identity(&self) -> &BaseIdentity {
        &self.0
    }

    fn widths(&self) -> FeatureWidths {
        WIDTHS
    }

    fn arithmetic(&self) -> &str {
        ARCHITECTURE
    }

    fn forward(
        &mut self,
        images: &[&PreparedImage],
        outputs: Outputs,
    ) -> Result<FeatureBatch, BaseError> {
        let zeros = |width: usize, outputs: bool| {
            if outputs { vec![0.0; images.len() * width] } else { Vec::new() }
        };
        let (gap, pyramid) = (zeros(WIDTHS.gap, true), zeros(WIDTHS.pyramid, outputs.pyramid));
        Ok(FeatureBatch { gap, pyramid, ..FeatureBatch::default() })
    }
}

/// Serves as `turret serve` does by default, until it is killed.
pub(crate) fn run(arguments: Arguments) -> Result<()> {
    tracing_subscriber::fmt().json().flatten_event(true).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(processors().clamp(2, 8))
        .enable_all()
        .build()?;
    let anywhere = ([127, 0, 0, 1], 0).into();
    let config = ServerConfig {
        listen: anywhere,
        admin: anywhere,
        heads: HeadStore::new(arguments.heads),
        rescan: std::time::Duration::from_secs(5),
        drain: std::time::Duration::from_secs(20),
        engine: EngineConfig { decode_threads: processors(), ..EngineConfig::default() },
        health: HealthBounds::default(),
        grpc: GrpcLimits::default(),
        verdict_log: VerdictLog::default(),
        dropped_lines: DroppedLines::default(),
    };
    runtime.block_on(async {
        let load =
            |_: &Metrics| Ok::<Box<dyn Base>, std::io::Error>(Box::new(NullBase(identity())));
        let server = Server::start(config, load).await?;
        tracing::info!(grpc = %server.grpc_address, admin = %server.admin_address, "listening");
        Ok(server.run(std::future::pending()).await?)
    })
}
