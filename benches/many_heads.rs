//! Ten thousand heads: time of the first scan, memory, and cost of a swap.
//!
//! `make bench-heads` prints a table, and the same as JSON on the last line.
#![expect(clippy::print_stdout, reason = "a benchmark prints to standard output")]

use std::{path::Path, sync::Arc, time::Instant};

use anyhow::{Context, ensure};
use turret::{
    base::{Base, BaseError, BaseIdentity, FeatureBatch, FeatureSet, FeatureWidths, Outputs},
    engine::{Engine, EngineConfig},
    head::{Class, DecisionRule, HeadContent, Linear, ReferenceSet},
    ids::{Digest, TaskName},
    image::{PreparedImage, Preprocess},
    metrics::{Code, DecisionLabel, Metrics, Rpc},
    registry::Registry,
    reload::Reconciler,
    store::HeadStore,
};

const HEADS: usize = 10_000;
const CLASSES: usize = 10;
const WIDTHS: FeatureWidths = FeatureWidths { gap: 512, pyramid: 1920 };
const SWAPS: usize = 20;

fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    for number in 0..HEADS {
        write_head(folder.path(), number, 1)?;
    }
    let registry = Arc::new(Registry::default());
    let metrics = Arc::new(Metrics::new()?);
    let store = HeadStore::new(folder.path());
    let engine =
        Engine::start(Box::new(NullBase(identity())), &EngineConfig::default(), metrics.clone())?;
    let mut reconciler = Reconciler::new(store, registry.clone(), engine.clone(), metrics.clone());

    let before = resident_bytes()?;
    let begun = Instant::now();
    reconciler.scan();
    let load = begun.elapsed();
    let added = resident_bytes()?.saturating_sub(before);
    let table = registry.snapshot();
    ensure!(table.heads().len() == HEADS, "{} of {HEADS} heads serve", table.heads().len());
    let weights: usize = table.heads().map(|head| 4 * head.linear.weight().len()).sum();

    // Every head classifies, which proves that its weights are loaded.
    let features: Vec<f32> = (0..WIDTHS.gap).map(|i| (i % 17) as f32 / 17.0).collect();
    let begun = Instant::now();
    let winners: usize = table.heads().map(|head| head.judge(&features).winner).sum();
    let judge = begun.elapsed() / HEADS as u32;

    let begun = Instant::now();
    reconciler.scan();
    let idle_scan = begun.elapsed();

    let mut swap = std::time::Duration::ZERO;
    for number in 0..SWAPS {
        write_head(folder.path(), number, 2)?;
        let begun = Instant::now();
        reconciler.scan();
        swap += begun.elapsed();
    }
    let swapped = registry.snapshot().heads().filter(|head| head.version == 2).count();
    ensure!(swapped == SWAPS, "{swapped} of {SWAPS} swaps were made");
    engine.shut_down();

    let scrape = || {
        let begun = Instant::now();
        let text = metrics.render(registry.snapshot().heads().map(|head| head.info()));
        (text.len(), begun.elapsed())
    };
    let (idle_bytes, idle_scrape) = scrape();
    for head in registry.snapshot().heads() {
        metrics.count_verdict(head.counters(), 0, DecisionLabel::Pass);
        metrics.count_request(Rpc::Classify, Some(head.counters()), Code::Ok);
    }
    // Registers the counters' series.
    metrics.upkeep();
    let (busy_bytes, busy_scrape) = scrape();

    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    println!("{HEADS} heads of {CLASSES} classes on {} features", WIDTHS.gap);
    println!("  first scan, all installed   {:.2} s", load.as_secs_f64());
    println!(
        "  memory added                {:.0} MiB, of which weights {:.0} MiB",
        mib(added),
        mib(weights)
    );
    println!(
        "  one verdict                 {:.1} us (sum of winners {winners})",
        judge.as_secs_f64() * 1e6
    );
    println!("  a scan without changes      {:.0} ms", idle_scan.as_secs_f64() * 1e3);
    println!("  a scan with one new version {:.0} ms", swap.as_secs_f64() * 1e3 / SWAPS as f64);
    let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
    let scrape = |bytes: usize, time| format!("{:.1} MB in {:.1} ms", bytes as f64 / 1e6, ms(time));
    println!("  a scrape, no head asked     {}", scrape(idle_bytes, idle_scrape));
    println!("  a scrape, every head asked  {}", scrape(busy_bytes, busy_scrape));
    println!(
        "{}",
        serde_json::json!({
            "heads": HEADS, "load_seconds": load.as_secs_f64(), "added_mib": mib(added),
            "weights_mib": mib(weights), "judge_microseconds": judge.as_secs_f64() * 1e6,
            "idle_look_ms": idle_scan.as_secs_f64() * 1e3,
            "swap_look_ms": swap.as_secs_f64() * 1e3 / SWAPS as f64,
            "idle_scrape_bytes": idle_bytes, "idle_scrape_ms": ms(idle_scrape),
            "busy_scrape_bytes": busy_bytes, "busy_scrape_ms": ms(busy_scrape),
        })
    );
    Ok(())
}

/// A base that only the warm-up runs: the heads carry no reference pictures.
struct NullBase(BaseIdentity);

impl Base for NullBase {
    fn identity(&self) -> &BaseIdentity {
        &self.0
    }

    fn widths(&self) -> FeatureWidths {
        WIDTHS
    }

    fn arithmetic(&self) -> &str {
        "fp32"
    }

    fn forward(
        &mut self,
        _images: &[&PreparedImage],
        _outputs: Outputs,
    ) -> Result<FeatureBatch, BaseError> {
        Ok(FeatureBatch::default())
    }
}

fn identity() -> BaseIdentity {
    BaseIdentity { architecture: "resnet34".to_owned(), digest: Digest::of(b"benchmark") }
}

fn write_head(root: &Path, number: usize, version: u64) -> anyhow::Result<()> {
    let task: TaskName = format!("task-{number:05}").parse()?;
    let classes = (0..CLASSES).map(|class| Class {
        label: format!("class-{class}").into(),
        code: class as u32 + 1,
        good: class == 0,
    });
    let weight =
        (0..CLASSES * WIDTHS.gap).map(|i| ((i * 7 + number) % 23) as f32 / 23.0 - 0.5).collect();
    let content = HeadContent {
        task,
        version,
        created_at: "2026-01-01T00:00:00Z".to_owned(),
        base: identity(),
        features: FeatureSet::Gap,
        branch: None,
        preprocess: Preprocess::default(),
        classes: classes.collect(),
        decision: DecisionRule::uniform(0.5, CLASSES),
        evidence: serde_json::Value::Null,
        provenance: serde_json::Value::Null,
        linear: Linear::new(weight, vec![0.0; CLASSES], WIDTHS.gap)?,
        arithmetic: "fp32".to_owned(),
        reference: ReferenceSet::default(),
    };
    let folder = root.join(content.task.as_str());
    fs_err::create_dir_all(&folder)?;
    fs_err::write(folder.join(format!("{version:08}.safetensors")), content.to_bytes()?)?;
    Ok(())
}

/// Returns the resident memory of this process.
fn resident_bytes() -> anyhow::Result<usize> {
    let status = fs_err::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: usize = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}
