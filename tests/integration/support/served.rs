//! A server in its own process, with a real base.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
};

use procfs::{
    net::TcpState,
    process::{FDTarget, Process},
};

use super::{
    PATIENCE, eventually,
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
    fn spawn(base: &Path, heads: &Path, stderr: Stdio) -> Child {
        let anywhere = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        turret()
            .args(["serve", "--log-format", "json"])
            .args(anywhere)
            .args([Path::new("--base"), base, Path::new("--heads"), heads])
            .stderr(stderr)
            .spawn()
            .unwrap()
    }

    /// Starts the server with this standard error, and returns once it listens.
    pub(crate) async fn start_unheard(base: &Path, heads: &Path, stderr: Stdio) -> Self {
        let child = Self::spawn(base, heads, stderr);
        eventually("the server listens", async || listening(child.id()).len() == 2).await;
        let [grpc, admin] = listening(child.id())[..] else { panic!("a port was closed") };
        Self { child, grpc, admin, log: mpsc::channel().1 }
    }

    /// Starts the server and returns once it listens.
    pub(crate) fn start(base: &Path, heads: &Path) -> Self {
        let mut child = Self::spawn(base, heads, Stdio::piped());
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

    /// Sends a signal such as `-HUP`.
    pub(crate) fn signal(&self, signal: &str) {
        success(Command::new("kill").args([signal, &self.child.id().to_string()]));
    }

    /// Sends SIGTERM and returns the exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        self.signal("-TERM");
        let (sender, ended) = mpsc::channel();
        std::thread::spawn(move || sender.send(self.child.wait().unwrap().code()));
        ended.recv_timeout(PATIENCE).expect("the server ends after SIGTERM")
    }
}

/// Returns the addresses on which a process listens, in the order in which it opened them.
fn listening(process: u32) -> Vec<SocketAddr> {
    let process = Process::new(process.cast_signed()).unwrap();
    let listeners: HashMap<u64, SocketAddr> = process
        .tcp()
        .unwrap()
        .into_iter()
        .filter(|socket| socket.state == TcpState::Listen)
        .map(|socket| (socket.inode, socket.local_address))
        .collect();
    let mut opened: Vec<(i32, SocketAddr)> = process
        .fd()
        .unwrap()
        .filter_map(|file| {
            let file = file.ok()?;
            let FDTarget::Socket(inode) = file.target else { return None };
            Some((file.fd, *listeners.get(&inode)?))
        })
        .collect();
    opened.sort_unstable();
    opened.into_iter().map(|(_, address)| address).collect()
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
    }
}
