//! A fake server that answers by a script and records its requests.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::net::TcpListener;
use tokio_stream::{Stream, StreamExt, wrappers::TcpListenerStream};
use tonic::{Code, Request, Response, Status, Streaming, transport::Server};
use tonic_types::{ErrorDetails, StatusExt};
use turret_client::proto::{
    ClassifyRequest, ClassifyResponse, Decision, EmbedRequest, EmbedResponse, Head, HeadEvent,
    HeadState, ListHeadsRequest, ListHeadsResponse, Verdict, WatchHeadsRequest,
};

mod stubs {
    #![expect(unreachable_pub, reason = "generated")]
    include!(concat!(env!("OUT_DIR"), "/fake_server/turret.v1.rs"));
}

use stubs::{
    classifier_server::{Classifier, ClassifierServer},
    heads_server::{Heads, HeadsServer},
};

/// The answer to a `Classify` request.
pub(crate) enum Reply {
    /// PASS for every task.
    Verdicts,
    Fail(Status),
    /// The request is never answered.
    Silence,
}

/// An attempt as the server saw it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt {
    pub(crate) at: Instant,
    /// Value of the header `grpc-timeout`.
    pub(crate) timeout: Option<Duration>,
}

#[derive(Clone)]
pub(crate) struct FakeServer {
    pub(crate) address: SocketAddr,
    script: Arc<dyn Fn(usize) -> Reply + Send + Sync>,
    attempts: Arc<Mutex<Vec<Attempt>>>,
}

impl FakeServer {
    /// Starts a server that answers the n-th `Classify`, from 0, with `script(n)`.
    pub(crate) async fn start(script: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Self { address, script: Arc::new(script), attempts: Arc::default() };
        let router = Server::builder()
            .add_service(ClassifierServer::new(server.clone()))
            .add_service(HeadsServer::new(server.clone()));
        tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn attempts(&self) -> Vec<Attempt> {
        self.attempts.lock().unwrap().clone()
    }

    /// Makes the next `Classify` the first one of the script.
    pub(crate) fn forget_attempts(&self) {
        self.attempts.lock().unwrap().clear();
    }
}

/// Returns an error as Turret sends it.
pub(crate) fn failure(code: Code, retry_after: Option<Duration>) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info("SOME_REASON", "turret", []);
    details.add_bad_request_violation("roi", "outside");
    details.set_retry_info(retry_after);
    Status::with_error_details(code, "as the test says", details)
}

pub(crate) fn head(task: &str, version: u64, state: HeadState) -> Head {
    Head { task: task.to_owned(), version, state: state.into(), ..Head::default() }
}

fn verdicts(request: ClassifyRequest) -> ClassifyResponse {
    let verdict = |task| Verdict { task, decision: Decision::Pass.into(), ..Verdict::default() };
    ClassifyResponse {
        request_id: request.request_id,
        verdicts: request.tasks.into_iter().map(verdict).collect(),
        ..ClassifyResponse::default()
    }
}

/// Parses a `grpc-timeout` below four years, which tonic writes in one of these units.
fn parse_timeout(text: &str) -> Duration {
    let (number, unit) = text.split_at(text.len() - 1);
    let number = number.parse().unwrap();
    match unit {
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => panic!("unexpected unit in {text}"),
    }
}

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Classifier for FakeServer {
    type ClassifyStreamStream = Messages<ClassifyResponse>;
    type EmbedStream = Messages<EmbedResponse>;

    async fn classify(
        &self,
        request: Request<ClassifyRequest>,
    ) -> Result<Response<ClassifyResponse>, Status> {
        let timeout = request.metadata().get("grpc-timeout");
        let timeout = timeout.map(|text| parse_timeout(text.to_str().unwrap()));
        let number = {
            let mut attempts = self.attempts.lock().unwrap();
            attempts.push(Attempt { at: Instant::now(), timeout });
            attempts.len() - 1
        };
        match (self.script)(number) {
            Reply::Verdicts => Ok(Response::new(verdicts(request.into_inner()))),
            Reply::Fail(status) => Err(status),
            Reply::Silence => std::future::pending().await,
        }
    }

    async fn classify_stream(
        &self,
        requests: Request<Streaming<ClassifyRequest>>,
    ) -> Result<Response<Self::ClassifyStreamStream>, Status> {
        let answers = requests.into_inner().map(|request| request.map(verdicts));
        Ok(Response::new(Box::pin(answers)))
    }

    async fn embed(
        &self,
        _requests: Request<Streaming<EmbedRequest>>,
    ) -> Result<Response<Self::EmbedStream>, Status> {
        Err(Status::unimplemented("the client never calls Embed"))
    }
}

#[tonic::async_trait]
impl Heads for FakeServer {
    type WatchHeadsStream = Messages<HeadEvent>;

    async fn list_heads(
        &self,
        request: Request<ListHeadsRequest>,
    ) -> Result<Response<ListHeadsResponse>, Status> {
        let task = request.into_inner().task;
        let mut heads = vec![
            head("bracket", 2, HeadState::Serving),
            head("bracket", 3, HeadState::Rejected),
            head("seal", 1, HeadState::Serving),
        ];
        heads.retain(|head| task.is_empty() || head.task == task);
        Ok(Response::new(ListHeadsResponse { heads, generation: 7, ..Default::default() }))
    }

    async fn watch_heads(
        &self,
        _request: Request<WatchHeadsRequest>,
    ) -> Result<Response<Self::WatchHeadsStream>, Status> {
        let event = |head| Ok(HeadEvent { head: Some(head), generation: 7 });
        let events = [
            event(head("bracket", 2, HeadState::Serving)),
            event(head("bracket", 2, HeadState::Retired)),
            Err(failure(Code::Unavailable, None)),
        ];
        Ok(Response::new(Box::pin(tokio_stream::iter(events))))
    }
}
