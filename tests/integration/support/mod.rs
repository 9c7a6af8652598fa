//! Helpers that the tests share.

pub(crate) mod fake_base;
pub(crate) mod faulty_files;
pub(crate) mod heads;
pub(crate) mod pictures;
pub(crate) mod process;
pub(crate) mod raw;
#[cfg(feature = "torch")]
pub(crate) mod served;
pub(crate) mod server;

use std::{
    future::Future,
    time::{Duration, Instant},
};

pub(crate) use fake_base::FakeBase;
pub(crate) use server::TestServer;

/// Long enough for a busy machine; only failing tests wait this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Polls until the condition holds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "timed out waiting until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Awaits the future for at most [`PATIENCE`].
pub(crate) async fn within_patience<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("{what} took longer than {PATIENCE:?}"),
    }
}
