use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use super::*;

const LENGTH: usize = 300_000;

/// Named after the digest of [`content`].
const WEIGHTS: KnownWeights = KnownWeights {
    name: "test-weights",
    file: "test-3c65ea93.pth",
    url: "http://nobody.invalid/test-3c65ea93.pth",
    sha256_prefix: "3c65ea93",
    architecture_name: "resnet34",
};

fn content() -> Vec<u8> {
    (0..LENGTH).map(|index| (index % 251) as u8).collect()
}

/// What the server does with one connection.
#[derive(Debug, Clone, Copy)]
enum Answer {
    /// Correct: the whole file, the requested range, or 416.
    Honest,
    /// The same, but the connection drops after this many bytes of the body.
    LostAfter(usize),
    /// The same, but the server falls silent after this many bytes.
    SilentAfter(usize),
    /// The whole file, whatever was requested.
    WithoutRanges,
    /// A range that starts at a different byte from the one requested.
    WrongRange,
    Status(u16),
}

/// Sends the answers in turn, then refuses connections.
struct Server {
    url: String,
    ranges: Arc<Mutex<Vec<Option<usize>>>>,
}

impl Server {
    fn start(answers: &[Answer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/weights.pth", listener.local_addr().unwrap());
        let ranges = Arc::new(Mutex::new(Vec::new()));
        let (answers, seen) = (answers.to_vec(), Arc::clone(&ranges));
        thread::spawn(move || {
            let mut silent = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                serve(&mut stream, answer, &seen);
                if matches!(answer, Answer::SilentAfter(_)) {
                    silent.push(stream);
                }
            }
        });
        Self { url, ranges }
    }

    /// Returns the first byte that each request so far asked for.
    fn ranges(&self) -> Vec<Option<usize>> {
        self.ranges.lock().unwrap().clone()
    }
}

fn serve(stream: &mut TcpStream, answer: Answer, ranges: &Mutex<Vec<Option<usize>>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = read_head(&mut reader);
    if head.starts_with("connect ") {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        head = read_head(&mut reader);
    }
    let start: Option<usize> = head
        .lines()
        .find_map(|line| line.strip_prefix("range: bytes="))
        .map(|range| range.trim_end_matches('-').parse().unwrap());
    ranges.lock().unwrap().push(start);
    let whole = content();
    let (status, first) = match (answer, start) {
        (Answer::Status(status), _) => (status, LENGTH),
        (Answer::WithoutRanges, _) | (_, None) => (200, 0),
        (Answer::WrongRange, Some(start)) => (206, start / 2),
        (Answer::Honest | Answer::LostAfter(_) | Answer::SilentAfter(_), Some(start))
            if start < LENGTH =>
        {
            (206, start)
        }
        (Answer::Honest | Answer::LostAfter(_) | Answer::SilentAfter(_), Some(_)) => (416, LENGTH),
    };
    let body = &whole[first..];
    let mut head =
        format!("HTTP/1.1 {status} x\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    if status == 206 {
        head += &format!("Content-Range: bytes {first}-{}/{LENGTH}\r\n", LENGTH - 1);
    }
    let sent = match answer {
        Answer::LostAfter(length) | Answer::SilentAfter(length) => length.min(body.len()),
        Answer::Honest | Answer::WithoutRanges | Answer::WrongRange | Answer::Status(_) => {
            body.len()
        }
    };
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    // The client hangs up early on an unexpected answer.
    let _ = stream.write_all(&body[..sent]);
}

/// Reads the request line and header fields, in lower case.
fn read_head(reader: &mut impl BufRead) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap() > 0 {}
    head.to_lowercase()
}

fn network() -> Network {
    Network {
        proxy: None,
        connect_timeout: Duration::from_secs(10),
        silence_timeout: Duration::from_secs(10),
        pause: Duration::from_millis(1),
    }
}

/// Returns the result and all reported progress.
fn fetch(
    directory: &Path,
    url: &str,
    weights: &KnownWeights,
    network: &Network,
) -> (Result<PathBuf, FetchError>, Vec<Progress>) {
    let mut reports = Vec::new();
    let fetch = Fetch { weights, url_override: Some(url.to_owned()), directory };
    let result = fetch.fetch_over(network, &mut |progress| reports.push(progress));
    (result, reports)
}

fn part_of(directory: &Path) -> PathBuf {
    directory.join(format!("{}.part", WEIGHTS.file))
}

fn assert_only_the_whole_file(directory: &Path) {
    assert_eq!(fs_err::read(directory.join(WEIGHTS.file)).unwrap(), content());
    assert_eq!(fs_err::read_dir(directory).unwrap().count(), 1);
}

#[test]
fn fetched_file_has_its_name_and_is_fetched_once() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("not/yet/there");
    let server = Server::start(&[Answer::Honest]);
    let (result, reports) = fetch(&directory, &server.url, &WEIGHTS, &network());
    assert_eq!(result.unwrap(), directory.join(WEIGHTS.file));
    assert_only_the_whole_file(&directory);
    let total = Some(LENGTH as u64);
    assert_eq!(reports.first(), Some(&Progress { received: 0, total }));
    assert_eq!(reports.last(), Some(&Progress { received: LENGTH as u64, total }));
    // The server is gone by now.
    let (result, reports) = fetch(&directory, &server.url, &WEIGHTS, &network());
    assert!(result.is_ok() && reports.is_empty());
}

#[test]
fn resumes_where_an_earlier_run_stopped() {
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(part_of(folder.path()), &content()[..100_000]).unwrap();
    let server = Server::start(&[Answer::Honest]);
    let (result, reports) = fetch(folder.path(), &server.url, &WEIGHTS, &network());
    result.unwrap();
    assert_eq!(server.ranges(), [Some(100_000)]);
    assert_eq!(reports.first(), Some(&Progress { received: 100_000, total: Some(LENGTH as u64) }));
    assert_only_the_whole_file(folder.path());
}

#[test]
fn lost_connection_resumes_where_it_broke() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&[
        Answer::LostAfter(120_000),
        Answer::Status(503),
        Answer::LostAfter(60_000),
        Answer::Honest,
    ]);
    fetch(folder.path(), &server.url, &WEIGHTS, &network()).0.unwrap();
    assert_eq!(server.ranges(), [None, Some(120_000), Some(120_000), Some(180_000)]);
    assert_only_the_whole_file(folder.path());
}

#[test]
fn silent_server_is_retried_after_the_timeout() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&[Answer::SilentAfter(50_000), Answer::Honest]);
    let network = Network { silence_timeout: Duration::from_millis(200), ..network() };
    fetch(folder.path(), &server.url, &WEIGHTS, &network).0.unwrap();
    assert_eq!(server.ranges(), [None, Some(50_000)]);
    assert_only_the_whole_file(folder.path());
}

#[test]
fn starts_over_when_the_server_ignores_the_range() {
    for answers in [[Answer::WithoutRanges].as_slice(), &[Answer::WrongRange, Answer::Honest]] {
        let folder = tempfile::tempdir().unwrap();
        fs_err::write(part_of(folder.path()), &content()[..100_000]).unwrap();
        let server = Server::start(answers);
        fetch(folder.path(), &server.url, &WEIGHTS, &network()).0.unwrap();
        assert_only_the_whole_file(folder.path());
    }
}

#[test]
fn complete_part_is_only_checked() {
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(part_of(folder.path()), content()).unwrap();
    let server = Server::start(&[Answer::Honest]);
    fetch(folder.path(), &server.url, &WEIGHTS, &network()).0.unwrap();
    assert_eq!(server.ranges(), [Some(LENGTH)]);
    assert_only_the_whole_file(folder.path());
}

#[test]
fn gives_up_after_repeated_losses_and_keeps_the_part() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&[Answer::LostAfter(1_000); 5]);
    let error = fetch(folder.path(), &server.url, &WEIGHTS, &network()).0.unwrap_err();
    assert!(
        matches!(error, FetchError::Interrupted { received: 5_000, expected: Some(300_000), .. }),
        "{error}"
    );
    assert_eq!(fs_err::metadata(part_of(folder.path())).unwrap().len(), 5_000);
}

#[test]
fn wrong_digest_deletes_the_part_and_shows_both_digests() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&[Answer::Honest]);
    let other = KnownWeights { sha256_prefix: "0badc0de", ..WEIGHTS };
    let error = fetch(folder.path(), &server.url, &other, &network()).0.unwrap_err().to_string();
    assert!(error.contains("0badc0de") && error.contains(WEIGHTS.sha256_prefix), "{error}");
    assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn damaged_file_of_the_same_name_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join(WEIGHTS.file), &content()[1..]).unwrap();
    let server = Server::start(&[Answer::Honest]);
    fetch(folder.path(), &server.url, &WEIGHTS, &network()).0.unwrap();
    assert_only_the_whole_file(folder.path());
}

#[test]
fn missing_file_is_requested_once() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&[Answer::Status(404), Answer::Honest]);
    let error = fetch(folder.path(), &server.url, &WEIGHTS, &network()).0.unwrap_err();
    assert!(matches!(error, FetchError::Status { status: 404, .. }), "{error}");
}

#[test]
fn unreachable_error_names_ways_without_a_network() {
    let folder = tempfile::tempdir().unwrap();
    let closed = Server::start(&[]);
    for url in [closed.url.as_str(), WEIGHTS.url] {
        let error = fetch(folder.path(), url, &WEIGHTS, &network()).0.unwrap_err();
        assert!(matches!(error, FetchError::Unreachable { .. }), "{error}");
        let text = error.to_string();
        let import = format!("turret base import {} -o base.safetensors", WEIGHTS.file);
        for part in [url, &import, "timm", "demo base"] {
            assert!(text.contains(part), "{text}");
        }
    }
}

#[test]
fn proxy_resolves_the_name_and_relays_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let proxy = Server::start(&[Answer::Honest]);
    let address = proxy.url.trim_end_matches("/weights.pth");
    let network = Network { proxy: Some(ureq::Proxy::new(address).unwrap()), ..network() };
    fetch(folder.path(), WEIGHTS.url, &WEIGHTS, &network).0.unwrap();
    assert_only_the_whole_file(folder.path());
}

#[test]
fn second_process_never_writes_a_locked_part() {
    let folder = tempfile::tempdir().unwrap();
    let first = open_locked(&part_of(folder.path())).unwrap();
    let error = fetch(folder.path(), WEIGHTS.url, &WEIGHTS, &network()).0.unwrap_err();
    assert!(matches!(error, FetchError::Busy { .. }), "{error}");
    drop(first);
}

#[test]
fn known_file_names_end_in_their_digest() {
    for weights in KNOWN {
        assert!(weights.file.ends_with(&format!("-{}.pth", weights.sha256_prefix)), "{weights:?}");
        assert!(weights.url.ends_with(weights.file), "{weights:?}");
        assert!(weights.name.starts_with(weights.architecture_name), "{weights:?}");
        assert_eq!(KnownWeights::named(weights.name).unwrap(), weights);
    }
    let error = KnownWeights::named("resnet50").unwrap_err().to_string();
    assert!(error.contains("resnet34-imagenet1k-v1"), "{error}");
}
