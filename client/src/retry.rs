//! Retries a call while it can still succeed before its deadline.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Code, Request, Response, Status};

use crate::Error;

/// Longer timeouts are cut to this one, so that adding times cannot overflow.
const MAX_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 3600);

/// How often and how soon a failed call is retried.
///
/// Only UNAVAILABLE and RESOURCE_EXHAUSTED with a `RetryInfo` are retried, and only if the wait
/// ends before the deadline. Each wait is the exponential backoff or the server's `RetryInfo`,
/// whichever is longer, plus a random jitter of up to half of it, so that clients refused together
/// do not return together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Maximum attempts of one call, including the first. By default only the deadline bounds them.
    pub max_attempts: u32,
    /// Backoff after the first attempt, 100 ms by default; doubles with each further attempt.
    pub initial_backoff: Duration,
    /// Maximum backoff, 2 s by default.
    pub max_backoff: Duration,
}

impl RetryPolicy {
    /// A policy of one attempt.
    pub const NEVER: Self =
        Self { max_attempts: 1, initial_backoff: Duration::ZERO, max_backoff: Duration::ZERO };

    /// Returns how long to wait after `attempts` failed attempts, or `None` to give up.
    ///
    /// `jitter` is in [0, 1).
    fn wait(&self, error: &Error, attempts: u32, jitter: f64) -> Option<Duration> {
        let Error::Call { code, retry_after, .. } = error else { return None };
        let is_full = *code == Code::ResourceExhausted && retry_after.is_some();
        let can_succeed = *code == Code::Unavailable || is_full;
        if !can_succeed || attempts >= self.max_attempts {
            return None;
        }
        let doubled = 2u32.saturating_pow(attempts.saturating_sub(1));
        let backoff = self.initial_backoff.saturating_mul(doubled).min(self.max_backoff);
        let least = retry_after.unwrap_or_default().max(backoff);
        Some(least.saturating_add((least / 2).mul_f64(jitter)))
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: u32::MAX,
            initial_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
        }
    }
}

/// Calls `rpc` until it succeeds, fails permanently, or the deadline would pass.
///
/// Each attempt tells the server the time that remains (`grpc-timeout`).
pub(crate) async fn call<Q, A, F>(
    policy: RetryPolicy,
    timeout: Duration,
    request: Q,
    rpc: impl Fn(Request<Q>) -> F,
) -> Result<A, Error>
where
    Q: Clone,
    F: Future<Output = Result<Response<A>, Status>>,
{
    let deadline = Instant::now() + timeout.min(MAX_TIMEOUT);
    let remaining = || deadline.saturating_duration_since(Instant::now());
    let mut attempts = 0;
    loop {
        let mut attempt = Request::new(request.clone());
        attempt.set_timeout(remaining());
        // tonic's own timer stops at the answer's headers; this one also bounds its body.
        let error = match timeout_at(deadline, rpc(attempt)).await {
            Ok(Ok(response)) => return Ok(response.into_inner()),
            Ok(Err(status)) => Error::from(status),
            Err(_elapsed) => Error::too_late(),
        };
        attempts += 1;
        match policy.wait(&error, attempts, fastrand::f64()) {
            Some(wait) if wait < remaining() => sleep(wait).await,
            Some(_) | None => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn failure(code: Code, retry_after: Option<Duration>) -> Error {
        let message = String::new();
        Error::Call { code, reason: None, field: None, message, retry_after }
    }

    fn policy() -> RetryPolicy {
        RetryPolicy { max_attempts: 9, initial_backoff: 100 * MS, max_backoff: 500 * MS }
    }

    #[test]
    fn backoff_doubles_up_to_its_maximum() {
        let error = failure(Code::Unavailable, None);
        let waits = [1, 2, 3, 4, 8].map(|attempts| policy().wait(&error, attempts, 0.0));
        assert_eq!(waits, [100, 200, 400, 500, 500].map(|ms| Some(ms * MS)));
    }

    #[test]
    fn jitter_adds_up_to_half() {
        let error = failure(Code::ResourceExhausted, Some(300 * MS));
        assert_eq!(policy().wait(&error, 1, 0.0), Some(300 * MS));
        assert_eq!(policy().wait(&error, 1, 0.5), Some(375 * MS));
    }

    #[test]
    fn retry_info_may_exceed_the_maximum_backoff() {
        let error = failure(Code::Unavailable, Some(Duration::from_secs(7)));
        assert_eq!(policy().wait(&error, 5, 0.0), Some(Duration::from_secs(7)));
        let error = failure(Code::Unavailable, Some(Duration::MAX));
        assert_eq!(policy().wait(&error, u32::MAX - 1, 0.9), None);
        assert_eq!(policy().wait(&error, 1, 0.9), Some(Duration::MAX));
    }

    #[test]
    fn other_codes_and_exhaustion_without_retry_info_are_final() {
        for code in (0..=16).map(Code::from).filter(|code| *code != Code::Unavailable) {
            assert_eq!(policy().wait(&failure(code, None), 1, 0.0), None, "{code:?}");
        }
    }

    #[test]
    fn attempts_end_at_the_maximum() {
        let error = failure(Code::Unavailable, None);
        assert!(policy().wait(&error, 8, 0.0).is_some());
        assert_eq!(policy().wait(&error, 9, 0.0), None);
        assert_eq!(RetryPolicy::NEVER.wait(&error, 1, 0.0), None);
    }
}
