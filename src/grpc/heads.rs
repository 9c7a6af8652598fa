//! `turret.v1.Heads`: lists and watches the heads.

use std::{pin::Pin, sync::Arc, time::Instant};

use tokio::sync::{broadcast::error::RecvError, mpsc};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::{
    ServerState, proto,
    received::Received,
    request::parse_task,
    services::heads_server::Heads,
    status::{metrics_code, to_status},
};
use crate::{
    error::ServiceError,
    ids::Digest,
    metrics::{self, Rpc},
    registry::{HeadEntry, HeadEvent, HeadState, Listing},
};

/// Events buffered for one watcher.
const EVENT_BUFFER: usize = 64;

#[derive(Debug, Clone)]
pub struct HeadsService {
    state: Arc<ServerState>,
}

impl HeadsService {
    pub fn new(state: Arc<ServerState>) -> Self {
        Self { state }
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
        let only = request.into_inner().request.and_then(|request| match request.task.as_str() {
            "" => Ok(None),
            name => parse_task("task", name).map(Some),
        });
        let only = match only {
            Ok(only) => only,
            Err(error) => {
                self.count(Rpc::ListHeads, started, metrics_code(error.kind()));
                return Err(to_status(&error));
            }
        };
        let table = self.state.registry.snapshot();
        let base = self.state.engine.get().map(|engine| engine.identity().digest.to_string());
        let response = proto::ListHeadsResponse {
            heads: table.entries(only.as_ref()).into_iter().map(to_proto).collect(),
            generation: table.generation,
            base_digest: base.unwrap_or_default(),
        };
        self.count(Rpc::ListHeads, started, metrics::Code::Ok);
        Ok(Response::new(response))
    }

    async fn watch_heads(
        &self,
        _request: Request<Received<proto::WatchHeadsRequest>>,
    ) -> Result<Response<Self::WatchHeadsStream>, Status> {
        self.count(Rpc::WatchHeads, Instant::now(), metrics::Code::Ok);
        let (events, receiver) = mpsc::channel(EVENT_BUFFER);
        tokio::spawn(send_events(self.state.clone(), events));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// Sends the state, then each change, until the watcher leaves or the server drains.
///
/// A watcher that lags behind is sent the whole state again.
async fn send_events(
    state: Arc<ServerState>,
    watcher: mpsc::Sender<Result<proto::HeadEvent, Status>>,
) {
    let work = async {
        loop {
            let (table, mut events) = state.registry.watch();
            let (generation, entries) = (table.generation, table.entries(None));
            // A watcher may stay for days and must not keep replaced heads alive.
            drop(table);
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
    watcher.send(Ok(proto::HeadEvent { head: Some(to_proto(entry)), generation })).await.ok()
}

fn to_proto(entry: HeadEntry) -> proto::Head {
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
    // Versions start at 1; 0 stands for the task's folder.
    let version = match entry.listing {
        Listing::Head(version) => version,
        Listing::Folder => 0,
    };
    proto::Head {
        task: entry.task.to_string(),
        version,
        digest: entry.digest.as_ref().map(Digest::to_string).unwrap_or_default(),
        state: state.into(),
        reason: entry.reason,
        classes: classes.collect(),
        size_bytes: entry.size_bytes,
        since_unix_ms: entry.since_unix_ms,
        branch: entry.branch.map(|branch| branch.to_string()).unwrap_or_default(),
    }
}
