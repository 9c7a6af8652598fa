//! Load on a server: closed loops, whose clients wait for answers, and open loops, whose requests
//! do not wait.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use hdrhistogram::Histogram;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio::{task::JoinSet, time::Instant};
use tonic::Code;

use crate::{
    client::{Connection, Payload},
    process::cpu_seconds,
};

const CONNECTIONS: usize = 4;
/// Start of a closed loop whose answers are discarded, until batch sizes have settled.
const WARM_UP: Duration = Duration::from_millis(500);

/// Maps a number to the load's request of that number.
pub(crate) type Requests = Arc<dyn Fn(u64) -> Payload + Send + Sync>;

/// Connections to a server, opened anew for every load.
///
/// Between loads this process waits for engines and would not answer the server's HTTP/2 pings.
#[derive(Debug)]
pub(crate) struct Connections(Vec<Connection>);

impl Connections {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(Connection::open(address).await?);
        }
        Ok(Self(connections))
    }

    pub(crate) fn get(&self, number: usize) -> &Connection {
        &self.0[number % self.0.len()]
    }
}

/// An answer to a request.
#[derive(Debug, Clone, Copy)]
struct Answered {
    code: Code,
    /// Time since the start of the load.
    at: Duration,
    /// Time since the request was due; in a closed loop, since it was sent.
    since_due: Duration,
    since_sent: Duration,
}

/// Result of a load.
#[derive(Debug)]
pub(crate) struct Outcome {
    answers: Vec<Answered>,
    /// Processors that this process, the client, has kept busy.
    pub(crate) client_processors: f64,
}

/// Runs `clients` callers with one request in flight each.
///
/// # Errors
/// If a connection breaks.
pub(crate) async fn closed_loop(
    server: SocketAddr,
    clients: usize,
    time: Duration,
    requests: &Requests,
) -> Result<Outcome> {
    let connections = Connections::open(server).await?;
    let (begun, cpu) = (Instant::now(), cpu_seconds(std::process::id())?);
    let number = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for client in 0..clients {
        let (connection, requests) = (connections.get(client).clone(), requests.clone());
        let number = number.clone();
        callers.spawn(async move {
            let mut answers = Vec::new();
            while begun.elapsed() < time {
                let payload = requests(number.fetch_add(1, Ordering::Relaxed));
                let sent = Instant::now();
                let (code, _) = connection.call(&payload, None).await?;
                let (at, taken) = (begun.elapsed(), sent.elapsed());
                if at >= WARM_UP.min(time / 2) {
                    answers.push(Answered { code, at, since_due: taken, since_sent: taken });
                }
            }
            anyhow::Ok(answers)
        });
    }
    let mut answers = Vec::new();
    while let Some(caller) = callers.join_next().await {
        answers.extend(caller??);
    }
    Outcome::new(answers, begun, cpu)
}

/// A load whose requests arrive as a Poisson process, independently of answers.
///
/// A request's time counts from when it was due, which avoids coordinated omission.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpenLoop {
    /// Requests a second, on average.
    pub(crate) rate: f64,
    pub(crate) time: Duration,
    /// Seed of the arrival times.
    pub(crate) seed: u64,
    /// Deadline of each request.
    pub(crate) timeout: Option<Duration>,
}

impl OpenLoop {
    /// Runs the load.
    ///
    /// # Errors
    /// If a connection breaks.
    pub(crate) async fn run(self, server: SocketAddr, requests: &Requests) -> Result<Outcome> {
        let connections = Connections::open(server).await?;
        let (begun, cpu) = (Instant::now(), cpu_seconds(std::process::id())?);
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        let mut calls = JoinSet::new();
        let (mut due, mut number) = (begun, 0);
        loop {
            // Interarrival times of a Poisson process are exponential.
            due += Duration::from_secs_f64(-(1.0 - random.random::<f64>()).ln() / self.rate);
            if due.duration_since(begun) >= self.time {
                break;
            }
            tokio::time::sleep_until(due).await;
            let (connection, payload) = (connections.get(number).clone(), requests(number as u64));
            number += 1;
            calls.spawn(async move {
                let sent = Instant::now();
                let (code, _) = connection.call(&payload, self.timeout).await?;
                let (at, since_due, since_sent) = (begun.elapsed(), due.elapsed(), sent.elapsed());
                anyhow::Ok(Answered { code, at, since_due, since_sent })
            });
        }
        let mut answers = Vec::new();
        while let Some(call) = calls.join_next().await {
            answers.push(call??);
        }
        Outcome::new(answers, begun, cpu)
    }
}

impl Outcome {
    fn new(mut answers: Vec<Answered>, begun: Instant, cpu: f64) -> Result<Self> {
        answers.sort_by_key(|answer| answer.at);
        let client_processors =
            (cpu_seconds(std::process::id())? - cpu) / begun.elapsed().as_secs_f64();
        Ok(Self { answers, client_processors })
    }

    /// Returns the number of answers by code.
    pub(crate) fn codes(&self) -> BTreeMap<String, usize> {
        let mut codes = BTreeMap::new();
        for answer in &self.answers {
            *codes.entry(format!("{:?}", answer.code)).or_default() += 1;
        }
        codes
    }

    pub(crate) fn verdicts(&self) -> usize {
        self.answers.iter().filter(|answer| answer.code == Code::Ok).count()
    }

    pub(crate) fn failures(&self) -> usize {
        self.answers.len() - self.verdicts()
    }

    /// Returns verdicts a second: the slope of the least-squares line through their times.
    ///
    /// They come a batch at a time, so a count over an interval would be off by up to a batch.
    pub(crate) fn throughput(&self) -> f64 {
        let times: Vec<f64> = self
            .answers
            .iter()
            .filter(|answer| answer.code == Code::Ok)
            .map(|answer| answer.at.as_secs_f64())
            .collect();
        let count = times.len() as f64;
        let (mean_time, mean_number) = (times.iter().sum::<f64>() / count, (count - 1.0) / 2.0);
        let (mut covariance, mut variance) = (0.0, 0.0);
        for (number, time) in times.iter().enumerate() {
            covariance += (time - mean_time) * (number as f64 - mean_number);
            variance += (time - mean_time).powi(2);
        }
        covariance / variance
    }

    /// Returns the times of verdicts since their requests were due.
    pub(crate) fn verdict_times(&self) -> Result<Times> {
        Times::of_verdicts(std::slice::from_ref(self))
    }

    /// Returns the times of all other answers since sending: how fast a caller can go elsewhere.
    pub(crate) fn refusal_times(&self) -> Result<Times> {
        let refusals = self.answers.iter().filter(|answer| answer.code != Code::Ok);
        Times::new(refusals.map(|answer| answer.since_sent))
    }
}

/// Quantiles of times, in milliseconds.
#[derive(Debug)]
pub(crate) struct Times(Histogram<u64>);

impl Times {
    /// Returns the times of the verdicts of several loads together.
    pub(crate) fn of_verdicts(outcomes: &[Outcome]) -> Result<Self> {
        let answers = outcomes.iter().flat_map(|outcome| &outcome.answers);
        Self::new(answers.filter(|answer| answer.code == Code::Ok).map(|answer| answer.since_due))
    }

    fn new(times: impl Iterator<Item = Duration>) -> Result<Self> {
        let mut histogram = Histogram::new(3)?;
        for time in times {
            histogram.record(time.as_micros() as u64)?;
        }
        Ok(Self(histogram))
    }

    pub(crate) fn quantile(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e3
    }
}
