//! Load on a server: closed loops, whose clients wait for each answer, and open loops, whose requests come when they
//! come.

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
/// Answers in the first moments of a closed loop are left out: the batches have not settled.
const WARM_UP: Duration = Duration::from_millis(500);

/// What the n-th request of a load is.
pub(crate) type Requests = Arc<dyn Fn(u64) -> Payload + Send + Sync>;

/// Connections to a server. Every load opens its own: between loads this process waits for engines and would not answer
/// the server's HTTP/2 pings.
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

/// An answer.
#[derive(Debug, Clone, Copy)]
struct Answered {
    code: Code,
    /// From the start of the load.
    at: Duration,
    /// From the moment when the request was due; in a closed loop that is when it was sent.
    since_due: Duration,
    since_sent: Duration,
}

/// What became of a load.
#[derive(Debug)]
pub(crate) struct Outcome {
    answers: Vec<Answered>,
    /// Processor time of this process, the client, in processors.
    pub(crate) client_processors: f64,
}

/// `clients` callers, each with one request in flight.
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

/// Requests at the moments of a Poisson process, whether or not earlier ones have been answered. A request's time
/// counts from the moment when it was due, so that a late client hides nothing (no coordinated omission).
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpenLoop {
    /// Requests a second, on average.
    pub(crate) rate: f64,
    pub(crate) time: Duration,
    /// Seed of the moments.
    pub(crate) seed: u64,
    /// The deadline that each request carries.
    pub(crate) timeout: Option<Duration>,
}

impl OpenLoop {
    /// # Errors
    /// If a connection breaks.
    pub(crate) async fn run(self, server: SocketAddr, requests: &Requests) -> Result<Outcome> {
        let connections = Connections::open(server).await?;
        let (begun, cpu) = (Instant::now(), cpu_seconds(std::process::id())?);
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        let mut calls = JoinSet::new();
        let (mut due, mut number) = (begun, 0);
        loop {
            // The gaps of a Poisson process are exponential.
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

    /// How many answers had which code.
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

    /// Verdicts a second: the slope of the least-squares line through their times. They come a batch at a time;
    /// a count over an interval would be off by up to a batch.
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

    /// Time of the verdicts from when their requests were due.
    pub(crate) fn verdict_times(&self) -> Result<Times> {
        Times::of_verdicts(std::slice::from_ref(self))
    }

    /// Time of everything but verdicts, from when it was sent: how soon a caller knows that it must go elsewhere.
    pub(crate) fn refusal_times(&self) -> Result<Times> {
        let refusals = self.answers.iter().filter(|answer| answer.code != Code::Ok);
        Times::new(refusals.map(|answer| answer.since_sent))
    }
}

/// Quantiles of times, in milliseconds.
#[derive(Debug)]
pub(crate) struct Times(Histogram<u64>);

impl Times {
    /// Of the verdicts of several loads together.
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
