//! `turret.v1.Heads`: lists and watches the heads.

use std::{pin::Pin, sync::Arc, time::Instant};

use prost::Message as _;
use tokio::sync::{Semaphore, broadcast::error::RecvError, mpsc};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::{
    ServerState, proto,
    received::Received,
    request::{RequestError, parse_task},
    services::heads_server::Heads,
    status::{metrics_code, to_status},
};
use crate::{
    engine::EngineError,
    error::ServiceError,
    ids::{Digest, TaskName, Version},
    metrics::{self, Rpc},
    registry::{EntryKey, HeadEntry, HeadEvent, HeadState, HeadTable, Listing},
};

/// Events buffered for one watcher.
const EVENT_BUFFER: usize = 64;
/// Lists that are made at a time; further ones wait.
const MOST_LISTINGS: usize = 4;
/// Heads of one page.
const MAX_PAGE: usize = 1000;
/// A page ends with the head that reaches this size.
const PAGE_BYTES: usize = 1 << 20;

#[derive(Debug, Clone)]
pub struct HeadsService {
    state: Arc<ServerState>,
    listings: Arc<Semaphore>,
}

impl HeadsService {
    pub fn new(state: Arc<ServerState>) -> Self {
        Self { state, listings: Arc::new(Semaphore::new(MOST_LISTINGS)) }
    }

    /// Makes a list off the runtime's workers, few at a time.
    async fn listing<T: Send + 'static>(
        &self,
        make: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Status> {
        // The semaphore is never closed.
        let permit = self.listings.clone().acquire_owned().await;
        let work = move || {
            let _permit = permit;
            make()
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| {
            let detail = "listing heads panicked".to_owned();
            to_status(&EngineError::Failed { detail })
        })
    }

    fn count(&self, rpc: Rpc, started: Instant, code: metrics::Code) {
        self.state.metrics.count_request(rpc, None, code);
        self.state.metrics.observe_request(rpc, started.elapsed());
    }
}

#[tonic::async_trait]
impl Heads for HeadsService {
    type WatchHeadsStream = Pin<Box<dyn Stream<Item = Result<proto::HeadEvent, Status>> + Send>>;

    async fn list_heads(
        &self,
        request: Request<Received<proto::ListHeadsRequest>>,
    ) -> Result<Response<proto::ListHeadsResponse>, Status> {
        let started = Instant::now();
        let listed = request.into_inner().request.and_then(|request| {
            let proto::ListHeadsRequest { task, page_size, page_token } = request;
            let only = match task.as_str() {
                "" => None,
                name => Some(parse_task("task", name)?),
            };
            Ok((only, page_size, parse_token(&page_token)?))
        });
        let (only, page_size, after) = match listed {
            Ok(listed) => listed,
            Err(error) => {
                self.count(Rpc::ListHeads, started, metrics_code(error.kind()));
                return Err(to_status(&error));
            }
        };
        let table = self.state.registry.snapshot();
        let base = self.state.engine.get().map(|engine| engine.identity().digest.to_string());
        let (generation, base_digest) = (table.generation, base.unwrap_or_default());
        let listed = self.listing(move || match page_size {
            0 if after.is_none() => (all_heads(&table, only.as_ref()), String::new()),
            size => page(&table, only.as_ref(), after, size),
        });
        let (heads, next_page_token) = listed.await?;
        let response = proto::ListHeadsResponse { heads, generation, base_digest, next_page_token };
        self.count(Rpc::ListHeads, started, metrics::Code::Ok);
        Ok(Response::new(response))
    }

    async fn watch_heads(
        &self,
        _request: Request<Received<proto::WatchHeadsRequest>>,
    ) -> Result<Response<Self::WatchHeadsStream>, Status> {
        self.count(Rpc::WatchHeads, Instant::now(), metrics::Code::Ok);
        let (events, receiver) = mpsc::channel(EVENT_BUFFER);
        tokio::spawn(send_events(self.clone(), events));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// Sends the state, then each change, until the watcher leaves or the server drains.
///
/// A watcher that lags behind is sent the whole state again.
async fn send_events(
    service: HeadsService,
    watcher: mpsc::Sender<Result<proto::HeadEvent, Status>>,
) {
    let state = &service.state;
    let work = async {
        loop {
            let (table, mut events) = state.registry.watch();
            let generation = table.generation;
            // The table goes with the list: a watcher may stay for days and must not keep replaced
            // heads alive. Entries are shared, so that one who reads slowly holds little.
            let entries = service.listing(move || table.entries(None)).await.ok()?;
            for entry in entries {
                send(&watcher, HeadEvent { entry, generation }).await?;
            }
            loop {
                match events.recv().await {
                    Ok(event) => send(&watcher, event).await?,
                    Err(RecvError::Lagged(_)) => break,
                    Err(RecvError::Closed) => return Some(()),
                }
            }
        }
    };
    tokio::select! {
        () = state.draining.cancelled() => {}
        () = watcher.closed() => {}
        _ended = work => {}
    }
}

/// Returns `None` once the watcher is gone.
async fn send(
    watcher: &mpsc::Sender<Result<proto::HeadEvent, Status>>,
    event: HeadEvent,
) -> Option<()> {
    let HeadEvent { entry, generation } = event;
    watcher.send(Ok(proto::HeadEvent { head: Some(to_proto(&entry)), generation })).await.ok()
}

fn all_heads(table: &HeadTable, only: Option<&TaskName>) -> Vec<proto::Head> {
    table.entries(only).iter().map(|entry| to_proto(entry)).collect()
}

/// Returns one page and the token of the next, empty after the last.
fn page(
    table: &HeadTable,
    only: Option<&TaskName>,
    mut after: Option<EntryKey>,
    size: u32,
) -> (Vec<proto::Head>, String) {
    let size = usize::try_from(size).unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE);
    // One more tells whether there is a next page.
    let entries = match only {
        None => table.entries_after(after.as_ref(), size + 1),
        Some(_) => {
            let mut entries = table.entries(only);
            entries.retain(|entry| {
                after
                    .as_ref()
                    .is_none_or(|(task, listing)| (&entry.task, entry.listing) > (task, *listing))
            });
            entries
        }
    };
    let (mut heads, mut bytes) = (Vec::new(), 0);
    for entry in entries {
        if heads.len() == size || bytes >= PAGE_BYTES {
            return (heads, after.map(|last| token(&last)).unwrap_or_default());
        }
        let head = to_proto(&entry);
        bytes += head.encoded_len();
        heads.push(head);
        after = Some((entry.task.clone(), entry.listing));
    }
    (heads, String::new())
}

/// Writes which head a page ended with.
fn token((task, listing): &EntryKey) -> String {
    let task = task.as_ref().map(TaskName::as_str).unwrap_or_default();
    format!("{task} {}", version(*listing))
}

fn parse_token(token: &str) -> Result<Option<EntryKey>, RequestError> {
    if token.is_empty() {
        return Ok(None);
    }
    let parsed = token.split_once(' ').and_then(|(task, version)| {
        let listing = match version.parse().ok()? {
            0 => Listing::Folder,
            version => Listing::Head(version),
        };
        let task = if task.is_empty() { None } else { Some(task.parse().ok()?) };
        Some((task, listing))
    });
    parsed.map(Some).ok_or(RequestError::PageToken)
}

/// Returns the version in the protocol: they start at 1, and 0 stands for the task's folder.
fn version(listing: Listing) -> Version {
    match listing {
        Listing::Head(version) => version,
        Listing::Folder => 0,
    }
}

fn to_proto(entry: &HeadEntry) -> proto::Head {
    let state = match entry.state {
        HeadState::Serving => proto::HeadState::Serving,
        HeadState::Rejected => proto::HeadState::Rejected,
        HeadState::Retired => proto::HeadState::Retired,
    };
    let classes = entry.classes.iter().map(|class| proto::Class {
        label: class.label.to_string(),
        code: class.code,
        good: class.good,
    });
    proto::Head {
        // Empty for the folder of all heads.
        task: entry.task.as_ref().map(TaskName::to_string).unwrap_or_default(),
        version: version(entry.listing),
        digest: entry.digest.as_ref().map(Digest::to_string).unwrap_or_default(),
        state: state.into(),
        reason: entry.reason.clone(),
        classes: classes.collect(),
        size_bytes: entry.size_bytes,
        since_unix_ms: entry.since_unix_ms,
        branch: entry.branch.map(|branch| branch.to_string()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_token_is_refused_or_names_where_a_page_ended(
            text in prop_oneof![any::<String>(), "[a-z0-9._-]{0,70} ?[0-9]{0,22}"],
        ) {
            match parse_token(&text) {
                Ok(Some(after)) => prop_assert_eq!(parse_token(&token(&after)).unwrap(), Some(after)),
                Ok(None) => prop_assert!(text.is_empty()),
                Err(error) => prop_assert_eq!(error.reason(), "PAGE_TOKEN_INVALID"),
            }
        }
    }
}
