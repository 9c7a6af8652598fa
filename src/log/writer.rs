//! Writes lines on a thread of its own, so that no other thread waits for the log.

use std::{
    io::{self, ErrorKind, Write},
    mem,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;

use crate::metrics::DroppedLines;

/// Maximum bytes of lines that wait to be written: some ten thousand lines.
const MAX_WAITING: usize = 4 << 20;
/// How long to wait for room in a pipe that another program made non-blocking.
const RETRY: Duration = Duration::from_millis(10);

/// Takes lines and has them written by a thread that lasts as long as the process.
///
/// Guarantees under concurrent use:
/// 1. Giving a line never waits for the output and never fails. It takes one lock, for as long as
///    copying a line takes.
/// 2. At most 4 MiB of lines wait, beside as many that are being written. A line that finds no room
///    is dropped.
/// 3. A line that cannot be written is dropped, and the next one is tried anew.
/// 4. Every dropped line is counted, once.
/// 5. Lines come out whole, in the order in which they were given.
/// 6. Nothing here prints or panics.
#[derive(Debug, Clone)]
pub struct LogWriter {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    dropped: DroppedLines,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: Vec<u8>,
    /// Whether lines taken earlier are being written.
    is_writing: bool,
}

impl LogWriter {
    /// Starts the thread that writes to `output`.
    ///
    /// # Errors
    /// If the system cannot start a thread.
    pub fn start(output: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let writing = shared.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || writing.write_all(output))?;
        Ok(Self { shared })
    }

    /// Returns the number of dropped lines, which keeps counting.
    pub fn dropped(&self) -> DroppedLines {
        self.shared.dropped.clone()
    }

    /// Gives a line that ends with a newline.
    pub fn give(&self, line: &[u8]) {
        let mut waiting = self.shared.lock();
        if waiting.lines.len() + line.len() > MAX_WAITING {
            drop(waiting);
            self.shared.dropped.add(1);
            return;
        }
        waiting.lines.extend_from_slice(line);
        drop(waiting);
        self.shared.changed.notify_all();
    }

    /// Waits until every line given so far is written or dropped, but no longer than `patience`.
    pub fn flush(&self, patience: Duration) {
        let busy = |waiting: &mut Waiting| waiting.is_writing || !waiting.lines.is_empty();
        let waiting = self.shared.lock();
        let _waited = self.shared.changed.wait_timeout_while(waiting, patience, busy);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes lines forever.
    fn write_all(&self, output: impl Write) {
        let mut output = Output { output, is_torn: false };
        let mut lines = Vec::new();
        loop {
            let mut waiting = self.lock();
            while waiting.lines.is_empty() {
                waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            mem::swap(&mut waiting.lines, &mut lines);
            waiting.is_writing = true;
            drop(waiting);
            self.dropped.add(output.write(&lines));
            lines.clear();
            self.lock().is_writing = false;
            self.changed.notify_all();
        }
    }
}

struct Output<W> {
    output: W,
    /// Whether the last line that was begun could not be ended.
    is_torn: bool,
}

impl<W: Write> Output<W> {
    /// Writes lines and returns how many could not be written whole.
    fn write(&mut self, lines: &[u8]) -> u64 {
        if self.is_torn && self.write_bytes(b"\n").is_ok() {
            self.is_torn = false;
        }
        match self.write_bytes(lines) {
            Ok(()) => 0,
            Err(rest) => {
                let written = lines.len() - rest.len();
                self.is_torn |= lines[..written].last().is_some_and(|last| *last != b'\n');
                rest.iter().filter(|byte| **byte == b'\n').count() as u64
            }
        }
    }

    /// Returns what could not be written.
    fn write_bytes<'b>(&mut self, mut bytes: &'b [u8]) -> Result<(), &'b [u8]> {
        while !bytes.is_empty() {
            match self.output.write(bytes) {
                Ok(0) => return Err(bytes),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(RETRY),
                Err(_) => return Err(bytes),
            }
        }
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for LogWriter {
    type Writer = &'w Self;

    fn make_writer(&'w self) -> Self::Writer {
        self
    }
}

/// Each write is a whole line: the subscriber formats a line before it writes.
impl Write for &LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.give(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
