//! The programs as processes.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
};

use super::PATIENCE;

pub(crate) fn turret() -> Command {
    Command::new(env!("CARGO_BIN_EXE_turret"))
}

pub(crate) fn fine_tune() -> Command {
    Command::new(env!("CARGO_BIN_EXE_fine-tune"))
}

/// Runs a command that must succeed; its standard output.
pub(crate) fn success(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?} ended with {status}\n{stdout}\n{stderr}");
    stdout.into_owned()
}

/// Runs a command that must fail; its exit code and standard error.
pub(crate) fn failure(command: &mut Command) -> (i32, String) {
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{command:?} succeeded");
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

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
            .args(["serve", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json"])
            .args([Path::new("--base"), base, Path::new("--heads"), heads])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, log) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| lines.send(line))
        });
        let mut served = Self { child, grpc: ([0, 0, 0, 0], 0).into(), admin: ([0, 0, 0, 0], 0).into(), log };
        let listening = served.wait_for_line("listening");
        let line: serde_json::Value = serde_json::from_str(&listening).unwrap();
        served.grpc = line["grpc"].as_str().unwrap().parse().unwrap();
        served.admin = line["admin"].as_str().unwrap().parse().unwrap();
        served
    }

    /// The next line of the log that contains this.
    pub(crate) fn wait_for_line(&self, part: &str) -> String {
        loop {
            let line = self.log.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no line with {part:?}"));
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

/// A folder of pictures that a random base can tell apart: `light/`, `dark/` and `striped/`.
pub(crate) fn small_data_set(root: &Path, per_class: u32) -> PathBuf {
    let folder = root.join("data");
    for class in ["light", "dark", "striped"] {
        let class_folder = folder.join(class);
        fs_err::create_dir_all(&class_folder).unwrap();
        for number in 0..per_class {
            let picture = image::GrayImage::from_fn(64, 64, |x, y| {
                let grain = (x * 31 + y * 17 + number * 7) % 13;
                let value = match class {
                    "light" => 210 + grain,
                    "dark" => 30 + grain,
                    _ => 40 + 170 * (((x + number) / 4) % 2) + grain,
                };
                image::Luma([value as u8])
            });
            picture.save(class_folder.join(format!("{number:03}.png"))).unwrap();
        }
    }
    folder
}
