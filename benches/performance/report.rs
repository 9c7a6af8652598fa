//! Results of a benchmark: Markdown on standard output, and JSON in `target/bench/`.
#![expect(clippy::print_stdout, reason = "a benchmark prints to standard output")]

use std::path::Path;

use anyhow::Result;
use serde::Serialize;
use turret::config::processors;

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    name: String,
    machine: Machine,
    tables: Vec<Table>,
    bars: Vec<Bar>,
}

#[derive(Debug, Serialize)]
struct Machine {
    processor: String,
    processors: usize,
    /// The processor's instruction sets that matter for a network's speed.
    extensions: Vec<&'static str>,
    memory_gib: u64,
    kernel: String,
}

#[derive(Debug, Serialize)]
struct Table {
    title: String,
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

/// A required figure and the one found.
#[derive(Debug, Serialize)]
struct Bar {
    name: String,
    wanted: String,
    found: f64,
    met: bool,
}

/// Requirement on a figure.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Required {
    AtLeast(f64),
    AtMost(f64),
}

impl Report {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), machine: Machine::this(), tables: Vec::new(), bars: Vec::new() }
    }

    /// Prints a table at once, because a benchmark takes minutes.
    pub(crate) fn table(&mut self, title: &str, header: &[&str], rows: Vec<Vec<String>>) {
        println!("\n{title}\n\n| {} |", header.join(" | "));
        println!("|{}", "---|".repeat(header.len()));
        for row in &rows {
            println!("| {} |", row.join(" | "));
        }
        let header = header.iter().map(|cell| (*cell).to_owned()).collect();
        self.tables.push(Table { title: title.to_owned(), header, rows });
    }

    pub(crate) fn bar(&mut self, name: impl Into<String>, wanted: Required, found: f64) {
        let (sign, limit, met) = match wanted {
            Required::AtLeast(limit) => (">=", limit, found >= limit),
            Required::AtMost(limit) => ("<=", limit, found <= limit),
        };
        self.bars.push(Bar { name: name.into(), wanted: format!("{sign} {limit}"), found, met });
    }

    /// Prints the bars and writes `target/bench/NAME.json`.
    pub(crate) fn finish(self) -> Result<()> {
        let Machine { processor, processors, extensions, memory_gib, kernel } = &self.machine;
        println!("\nBars\n\n| bar | required | found | |\n|---|---|---|---|");
        for Bar { name, wanted, found, met } in &self.bars {
            println!(
                "| {name} | {wanted} | {} | {} |",
                figures(*found),
                if *met { "met" } else { "missed" }
            );
        }
        println!(
            "\nOn {processors} processors of {processor} ({}), {memory_gib} GiB, Linux {kernel}.",
            extensions.join(", ")
        );
        let path = Path::new("target/bench").join(format!("{}.json", self.name));
        fs_err::create_dir_all("target/bench")?;
        fs_err::write(&path, serde_json::to_vec_pretty(&self)?)?;
        println!("Written to {}.", path.display());
        Ok(())
    }
}

impl Machine {
    fn this() -> Self {
        let cpuinfo = fs_err::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
        };
        let flags = field(&cpuinfo, "flags").unwrap_or_default();
        let flags: Vec<&str> = flags.split(' ').collect();
        let memory =
            field(&fs_err::read_to_string("/proc/meminfo").unwrap_or_default(), "MemTotal")
                .unwrap_or_default();
        let kib: u64 = memory.trim_end_matches(" kB").parse().unwrap_or(0);
        let kernel = fs_err::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            processor: field(&cpuinfo, "model name")
                .unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            processors: processors(),
            extensions: [
                "avx2",
                "avx512f",
                "avx512_vnni",
                "avx_vnni",
                "avx512_bf16",
                "amx_bf16",
                "amx_int8",
            ]
            .into_iter()
            .filter(|extension| flags.contains(extension))
            .collect(),
            memory_gib: kib >> 20,
            kernel: kernel.trim().to_owned(),
        }
    }
}

/// Formats three significant figures, or all integer digits if there are more.
pub(crate) fn figures(value: f64) -> String {
    let digits = if value == 0.0 { 0.0 } else { value.abs().log10().floor() };
    format!("{value:.*}", (2.0 - digits).clamp(0.0, 4.0) as usize)
}

/// Returns the median, or NaN of no values.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// Returns the median of each round's ratio: a disturbance affects both sides of a round.
pub(crate) fn median_ratio(values: &[f64], others: &[f64]) -> f64 {
    median(&values.iter().zip(others).map(|(value, other)| value / other).collect::<Vec<_>>())
}
