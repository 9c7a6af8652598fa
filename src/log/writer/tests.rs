use std::sync::mpsc;

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

/// An output that takes what the test lets it take, and reports it.
struct Gate {
    /// The result of each write: how many bytes at most, or an error.
    results: mpsc::Receiver<io::Result<usize>>,
    written: mpsc::Sender<Vec<u8>>,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let most = self.results.recv().unwrap_or(Ok(usize::MAX))?;
        let written = &bytes[..most.min(bytes.len())];
        self.written.send(written.to_owned()).unwrap();
        Ok(written.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gate() -> (LogWriter, mpsc::Sender<io::Result<usize>>, mpsc::Receiver<Vec<u8>>) {
    let (allow, results) = mpsc::channel();
    let (written, outcome) = mpsc::channel();
    (LogWriter::start(Gate { results, written }).unwrap(), allow, outcome)
}

fn full() -> io::Result<usize> {
    Err(ErrorKind::StorageFull.into())
}

#[test]
fn lines_come_out_whole_and_in_order() {
    let (log, allow, written) = gate();
    [Ok(3), Err(ErrorKind::Interrupted.into()), Err(ErrorKind::WouldBlock.into()), Ok(100)]
        .into_iter()
        .for_each(|result| allow.send(result).unwrap());
    drop(allow);
    (0..1000).for_each(|number| log.give(format!("{number}\n").as_bytes()));
    log.flush(PATIENCE);
    let text = String::from_utf8(written.try_iter().flatten().collect()).unwrap();
    assert!(text.lines().eq((0..1000).map(|number| number.to_string())));
    assert_eq!(log.dropped().count(), 0);
}

#[test]
fn output_that_blocks_delays_no_giver_and_drops_are_counted() {
    let (log, _allow, _written) = gate();
    let line = [vec![b'x'; 1023], vec![b'\n']].concat();
    // The first lines may already be on their way to the output when the others fill the room.
    let given = 3 * MAX_WAITING / line.len();
    (0..given).for_each(|_| log.give(&line));
    let dropped = log.dropped().count() as usize;
    assert!((given / 3..given).contains(&dropped), "{dropped} of {given}");
    log.flush(Duration::from_millis(1));
}

#[test]
fn lines_that_cannot_be_written_are_counted_once() {
    let (log, allow, _written) = gate();
    (0..3).for_each(|_| allow.send(full()).unwrap());
    for expected in 1..=3 {
        log.give(b"lost\n");
        log.flush(PATIENCE);
        assert_eq!(log.dropped().count(), expected);
    }
}

#[test]
fn line_after_a_torn_one_begins_anew() {
    let (log, allow, written) = gate();
    [Ok(2), full()].into_iter().for_each(|result| allow.send(result).unwrap());
    log.give(b"torn\n");
    log.flush(PATIENCE);
    drop(allow);
    log.give(b"whole\n");
    log.flush(PATIENCE);
    let text: Vec<u8> = written.try_iter().flatten().collect();
    assert_eq!((text.as_slice(), log.dropped().count()), (&b"to\nwhole\n"[..], 1));
}
