//! A server in its own process, with a real base.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
};

use super::{
    PATIENCE,
    process::{success, turret},
};

/// `turret serve` on free ports; killed when dropped.
pub(crate) struct Served {
    child: Child,
    pub(crate) grpc: SocketAddr,
    pub(crate) admin: SocketAddr,
    log: mpsc::Receiver<String>,
}

impl Served {
    /// Starts the server and returns once it listens.
    pub(crate) fn start(base: &Path, heads: &Path) -> Self {
        let mut child = turret()
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
                "--log-format",
                "json",
            ])
            .args([Path::new("--base"), base, Path::new("--heads"), heads])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, log) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| lines.send(line))
        });
        let mut served =
            Self { child, grpc: ([0, 0, 0, 0], 0).into(), admin: ([0, 0, 0, 0], 0).into(), log };
        let listening = served.wait_for_line("listening");
        let line: serde_json::Value = serde_json::from_str(&listening).unwrap();
        served.grpc = line["grpc"].as_str().unwrap().parse().unwrap();
        served.admin = line["admin"].as_str().unwrap().parse().unwrap();
        served
    }

    /// Returns the next log line that contains `part`.
    pub(crate) fn wait_for_line(&self, part: &str) -> String {
        loop {
            let line = self
                .log
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("no log line contains {part:?}"));
            if line.contains(part) {
                return line;
            }
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.grpc)
    }

    /// Sends SIGTERM and returns the exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        success(Command::new("kill").args(["-TERM", &self.child.id().to_string()]));
        let (sender, ended) = mpsc::channel();
        std::thread::spawn(move || sender.send(self.child.wait().unwrap().code()));
        ended.recv_timeout(PATIENCE).expect("the server ends after SIGTERM")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
    }
}
