//! What a benchmark found: Markdown on standard output, the same as JSON in `target/bench/`.
#![expect(clippy::print_stdout, reason = "a benchmark speaks on standard output")]

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
    /// Of those that matter to a network's speed, which the processor has.
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

/// A figure that was promised, and the one that was found.
#[derive(Debug, Serialize)]
struct Bar {
    name: String,
    wanted: String,
    found: f64,
    met: bool,
}

/// What a found figure must be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted {
    AtLeast(f64),
    AtMost(f64),
}

impl Report {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), machine: Machine::this(), tables: Vec::new(), bars: Vec::new() }
    }

    /// Prints a table at once: a benchmark takes minutes, and its first figures are worth reading meanwhile.
    pub(crate) fn table(&mut self, title: &str, header: &[&str], rows: Vec<Vec<String>>) {
        println!("\n{title}\n\n| {} |", header.join(" | "));
        println!("|{}", "---|".repeat(header.len()));
        for row in &rows {
            println!("| {} |", row.join(" | "));
        }
        let header = header.iter().map(|cell| (*cell).to_owned()).collect();
        self.tables.push(Table { title: title.to_owned(), header, rows });
    }

    pub(crate) fn bar(&mut self, name: impl Into<String>, wanted: Wanted, found: f64) {
        let (sign, limit, met) = match wanted {
            Wanted::AtLeast(limit) => (">=", limit, found >= limit),
            Wanted::AtMost(limit) => ("<=", limit, found <= limit),
        };
        self.bars.push(Bar { name: name.into(), wanted: format!("{sign} {limit}"), found, met });
    }

    /// Prints the bars and writes `target/bench/NAME.json`.
    pub(crate) fn finish(self) -> Result<()> {
        let Machine { processor, processors, extensions, memory_gib, kernel } = &self.machine;
        println!("\nBars\n\n| bar | wanted | found | |\n|---|---|---|---|");
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

/// Three significant figures or all whole ones.
pub(crate) fn figures(value: f64) -> String {
    let digits = if value == 0.0 { 0.0 } else { value.abs().log10().floor() };
    format!("{value:.*}", (2.0 - digits).clamp(0.0, 4.0) as usize)
}

/// The middle one, or the mean of the middle two; NaN of nothing.
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

/// The median of the ratios, round by round: what disturbed a round disturbed both.
pub(crate) fn median_ratio(values: &[f64], others: &[f64]) -> f64 {
    median(&values.iter().zip(others).map(|(value, other)| value / other).collect::<Vec<_>>())
}
