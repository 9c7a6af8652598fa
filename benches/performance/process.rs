//! Server processes: starting them, and what they have used.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use serde_json::Value;

/// Longest time that a server may take to start.
const PATIENCE: Duration = Duration::from_secs(120);

/// Returns the processor time of a process: all threads, user and kernel mode.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = procfs::process::Process::new(i32::try_from(pid)?)?.stat()?;
    Ok((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64)
}

/// A server in its own process; killed when dropped.
#[derive(Debug)]
pub(crate) struct ServerProcess {
    child: Child,
    pub(crate) grpc: SocketAddr,
    admin: SocketAddr,
    /// Time from the start of the process until it was ready.
    pub(crate) start_up: Duration,
}

impl ServerProcess {
    /// Starts the release build of `turret serve`.
    pub(crate) fn turret(
        base: &Path,
        heads: &Path,
        precision: &str,
        threads: usize,
    ) -> Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_turret"));
        command.args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--log-format",
            "json",
        ]);
        command.args([
            "--device",
            "cpu",
            "--precision",
            precision,
            "--threads",
            &threads.to_string(),
        ]);
        command.arg("--base").arg(base).arg("--heads").arg(heads);
        Self::start(command)
    }

    /// Starts a server that logs in JSON, and waits until it is ready.
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        let begun = Instant::now();
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let stderr = BufReader::new(child.stderr.take().context("standard error is piped")?);
        let (sender, log) = mpsc::channel();
        // Reads as long as the server lives: it must not block on a full pipe.
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                // Nothing receives the lines after the start.
                let _disconnected = sender.send(line);
            }
        });
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut server = Self { child, grpc: nowhere, admin: nowhere, start_up: Duration::ZERO };
        loop {
            let line = log.recv_timeout(PATIENCE).context("the server did not become ready")?;
            let entry: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
            let address = |key: &str| entry[key].as_str().unwrap_or_default().parse();
            match entry["message"].as_str() {
                Some("listening") => {
                    (server.grpc, server.admin) = (address("grpc")?, address("admin")?)
                }
                Some("ready") => break,
                Some(_) | None => {}
            }
        }
        server.start_up = begun.elapsed();
        Ok(server)
    }

    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        cpu_seconds(self.child.id())
    }

    /// Returns every series of `/metrics` by its name and labels.
    pub(crate) fn metrics(&self) -> Result<HashMap<String, f64>> {
        let text = ureq::get(format!("http://{}/metrics", self.admin))
            .call()?
            .body_mut()
            .read_to_string()?;
        let series = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        series
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').with_context(|| line.to_owned())?;
                Ok((name.to_owned(), value.parse()?))
            })
            .collect()
    }

    pub(crate) fn metric(&self, series: &str) -> Result<f64> {
        self.metrics()?
            .get(series)
            .copied()
            .with_context(|| format!("the server has no series {series}"))
    }

    /// Returns the most memory that the process has had resident.
    pub(crate) fn peak_resident_mb(&self) -> Result<f64> {
        let status = procfs::process::Process::new(i32::try_from(self.child.id())?)?.status()?;
        Ok(status.vmhwm.context("the kernel does not tell the peak")? as f64 * 1024.0 / 1e6)
    }

    pub(crate) fn resident_mb(&self) -> Result<f64> {
        Ok(self.metric("process_resident_memory_bytes")? / 1e6)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It may have ended by itself; either way it must not outlive this value.
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}
