//! Cost of deep heads: time relative to the base's forward pass, and memory over a thousand swaps.
//!
//! `make bench-deep-heads` prints tables, and the same as JSON on the last line.
#![expect(clippy::print_stdout, reason = "a benchmark prints to standard output")]

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use turret::{
    base::{
        Base, BaseWeights, BranchPoint, BranchRows, BranchWeights, Device, ForwardRequest, Outputs,
        PrecisionChoice,
    },
    config::processors,
    engine::{Engine, EngineConfig},
    image::{PreparedImage, Preprocess},
    metrics::Metrics,
    torch::{Network, set_cpu_threads},
};

/// Bars, as shares of a forward pass.
const BARS: [(&str, f64); 2] = [("layer4.2", 0.10), ("layer4", 0.22)];
const BATCHES: [usize; 2] = [1, 8];

#[derive(Parser, Debug)]
struct Arguments {
    #[arg(long, value_name = "FILE", default_value = "assets/base-textures.safetensors")]
    base: PathBuf,
    /// fp32, bf16 or int8 (int8 needs a calibrated base)
    #[arg(long, value_name = "NAME", default_value = "fp32")]
    precision: PrecisionChoice,
    #[arg(long, value_name = "N", default_value_t = 15)]
    rounds: usize,
    #[arg(long, value_name = "N", default_value_t = 1000)]
    swaps: u64,
    /// Flag that `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    set_cpu_threads(processors());
    let weights = BaseWeights::load(&arguments.base)?;
    let mut network = Network::new(&weights, Device::Cpu, arguments.precision)?;
    let costs = costs(&weights, &mut network, arguments.rounds)?;
    let memory = memory(&weights, network, arguments.swaps)?;
    println!("{}", serde_json::json!({ "costs": costs, "memory": memory }));
    Ok(())
}

/// Returns pictures of noise over a gradient, without zeros.
fn pictures(count: usize) -> Vec<PreparedImage> {
    let Preprocess { mean, std, .. } = Preprocess::default();
    let side = Preprocess::default().side();
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut picture = || {
        let pixels = (0..side * side * 3)
            .map(|index| (index / (3 * side)) as u8 / 2 + random.random_range(20..120));
        PreparedImage { side, pixels: pixels.collect::<Vec<u8>>().into(), mean, std }
    };
    (0..count).map(|_| picture()).collect()
}

/// Measures each variant once a round and returns the medians of the rounds' ratios.
fn costs(
    weights: &BaseWeights,
    network: &mut Network,
    rounds: usize,
) -> Result<Vec<serde_json::Value>> {
    let branches = BARS.map(|(name, _)| weights.branch(name.parse()?).map_err(anyhow::Error::from));
    let mut ids = Vec::new();
    for branch in branches {
        ids.push(network.load_branch(&branch?)?);
    }
    let mut found = Vec::new();
    println!(
        "| layers | batch | beside the base's own | in place of the base's own | required |\n|---|---|---|---|---|"
    );
    for batch in BATCHES {
        let images = pictures(batch);
        let images: Vec<&PreparedImage> = images.iter().collect();
        for ((name, bar), id) in BARS.iter().zip(&ids) {
            let rows = [BranchRows { branch: *id, images: (0..batch).collect() }];
            let mut pass = |own: bool, branches: &[BranchRows]| -> Result<Duration> {
                let begun = Instant::now();
                network.forward_branches(
                    &images,
                    ForwardRequest { outputs: Outputs::default(), own, branches },
                )?;
                Ok(begun.elapsed())
            };
            let (mut beside, mut instead) = (Vec::new(), Vec::new());
            for round in 0..=rounds {
                let (alone, both, only) =
                    (pass(true, &[])?, pass(true, &rows)?, pass(false, &rows)?);
                // The first round warms up.
                if round > 0 {
                    beside.push(both.as_secs_f64() / alone.as_secs_f64() - 1.0);
                    instead.push(only.as_secs_f64() / alone.as_secs_f64() - 1.0);
                }
            }
            let [beside, instead] = [beside, instead].map(|mut shares| {
                shares.sort_by(f64::total_cmp);
                shares[shares.len() / 2]
            });
            println!(
                "| {name} | {batch} | {:+.1} % | {:+.1} % | at most {:.0} % |",
                100.0 * beside,
                100.0 * instead,
                100.0 * bar
            );
            found.push(serde_json::json!({
                "layers": name, "batch": batch, "beside": beside, "instead": instead, "bar": bar, "met": beside <= *bar,
            }));
        }
    }
    ids.into_iter().for_each(|id| network.unload_branch(id));
    Ok(found)
}

/// Swaps a head's layers again and again while pictures pass through the base.
fn memory(weights: &BaseWeights, network: Network, swaps: u64) -> Result<serde_json::Value> {
    let engine =
        Engine::start(Box::new(network), &EngineConfig::default(), Arc::new(Metrics::new()?))?;
    let last = weights.branch(BranchPoint { first_block: 2 })?;
    let changed = |version: u64| {
        let mut weights = BranchWeights { branch: last.branch, tensors: last.tensors.clone() };
        for tensor in weights.tensors.values_mut().filter(|tensor| tensor.shape.len() == 4) {
            tensor.values[0] = version as f32 * 1e-6;
        }
        weights
    };
    let stop = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicU64::new(0));
    let load = std::thread::spawn({
        let (engine, stop, served) = (engine.clone(), stop.clone(), served.clone());
        move || -> Result<()> {
            let images = pictures(1);
            while !stop.load(Ordering::Relaxed) {
                engine.features(images.clone(), Outputs::default(), None)?;
                served.fetch_add(1, Ordering::Relaxed);
            }
            Ok(())
        }
    });
    let image = pictures(1);
    let mut serving = engine.load_branch(changed(0))?;
    let mut resident = Vec::new();
    let begun = Instant::now();
    for version in 1..=swaps {
        let next = engine.load_branch(changed(version))?;
        let batch = engine.features(image.clone(), Outputs::default(), Some(next.id))?;
        ensure!(
            batch.gap.iter().all(|value| value.is_finite()),
            "version {version} gives features that are not finite"
        );
        serving = next;
        if version % (swaps / 10).max(1) == 0 {
            resident.push(resident_mib()?);
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    drop(serving);
    stop.store(true, Ordering::Relaxed);
    load.join().map_err(|_| anyhow::anyhow!("the load panicked"))??;
    engine.shut_down();
    let (first, last) = (resident[0], resident[resident.len() - 1]);
    println!(
        "\n{swaps} swaps of layer4.2 in {seconds:.0} s beside {} other pictures, no failure. Resident after each tenth, MiB: \
         {resident:.0?}; the last to the first {:+.1} %.",
        served.load(Ordering::Relaxed),
        100.0 * (last / first - 1.0)
    );
    Ok(serde_json::json!({ "swaps": swaps, "resident_mib": resident, "seconds": seconds }))
}

fn resident_mib() -> Result<f64> {
    let process = procfs::process::Process::myself()?;
    let pages = process.statm().context("no memory statistics")?.resident;
    Ok((pages * procfs::page_size()) as f64 / f64::from(1 << 20))
}
