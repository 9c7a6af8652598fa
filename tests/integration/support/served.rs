//! A server as a process of its own, with a real base.

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

/// `turret serve` on ports of its own; killed when dropped.
pub(crate) struct Served {
    child: Child,
    pub(crate) grpc: SocketAddr,
    pub(crate) admin: SocketAddr,
    log: mpsc::Receiver<String>,
}

impl Served {
    /// Returns once it listens.
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

    /// The next line of the log that contains this.
    pub(crate) fn wait_for_line(&self, part: &str) -> String {
        loop {
            let line =
                self.log.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no line with {part:?}"));
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
        ended.recv_timeout(PATIENCE).expect("the server ends by itself")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
    }
}
