//! The client and its calls.

use std::time::Duration;

use tokio_stream::{Stream, StreamExt};
use tonic::{Response, Status, Streaming, transport::Channel};

use crate::{
    ClientBuilder, Error, RetryPolicy,
    proto::{
        ClassifyRequest, ClassifyResponse, HeadEvent, ListHeadsRequest, ListHeadsResponse,
        WatchHeadsRequest, classifier_client::ClassifierClient, heads_client::HeadsClient,
    },
    retry,
};

/// Heads asked for at a time; a server that knows no pages sends all.
const PAGE_SIZE: u32 = 1000;

/// A connection to one server, shared by its clones.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) classifier: ClassifierClient<Channel>,
    pub(crate) heads: HeadsClient<Channel>,
    pub(crate) timeout: Duration,
    pub(crate) retry: RetryPolicy,
}

impl Client {
    /// Connects to `http://HOST:PORT` with the settings that [`ClientBuilder`] documents.
    ///
    /// # Errors
    /// As [`ClientBuilder::connect`].
    pub async fn connect(url: impl Into<String>) -> Result<Self, Error> {
        Self::builder(url).connect().await
    }

    /// Returns a builder for a client of `http://HOST:PORT`.
    pub fn builder(url: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(url.into())
    }

    /// Classifies one image, within the client's timeout.
    ///
    /// # Errors
    /// [`Error::Call`], after retries if the server had no room or was unavailable.
    pub async fn classify(&self, request: ClassifyRequest) -> Result<ClassifyResponse, Error> {
        self.classify_within(request, self.timeout).await
    }

    /// Classifies one image, within `timeout` including retries.
    ///
    /// # Errors
    /// As [`Client::classify`].
    pub async fn classify_within(
        &self,
        request: ClassifyRequest,
        timeout: Duration,
    ) -> Result<ClassifyResponse, Error> {
        retry::call(self.retry, timeout, request, |request| {
            let mut client = self.classifier.clone();
            async move { client.classify(request).await }
        })
        .await
    }

    /// Sends many requests over one stream and returns the answers as they become ready.
    ///
    /// Answers come in any order and carry their request's `request_id`. A request that fails is
    /// answered by one verdict with NOT_JUDGED and an error; the stream goes on.
    ///
    /// # Errors
    /// [`Error::Call`] if the stream cannot be opened, and as the last item if it breaks.
    pub async fn classify_stream<S>(
        &self,
        requests: S,
    ) -> Result<impl Stream<Item = Result<ClassifyResponse, Error>> + Send + Unpin + use<S>, Error>
    where
        S: Stream<Item = ClassifyRequest> + Send + 'static,
    {
        messages(self.classifier.clone().classify_stream(requests).await)
    }

    /// Lists the heads of one task, or of all: those that serve and the files that are rejected.
    ///
    /// Asks page by page, so that there may be any number; each page has the client's timeout. A
    /// head that changes meanwhile is listed in either state.
    ///
    /// # Errors
    /// As [`Client::classify`].
    pub async fn heads(&self, task: Option<&str>) -> Result<ListHeadsResponse, Error> {
        let mut request = ListHeadsRequest {
            task: task.unwrap_or_default().to_owned(),
            page_size: PAGE_SIZE,
            page_token: String::new(),
        };
        let mut listed = Vec::new();
        loop {
            let page = retry::call(self.retry, self.timeout, request.clone(), |request| {
                let mut client = self.heads.clone();
                async move { client.list_heads(request).await }
            });
            let mut page = page.await?;
            listed.append(&mut page.heads);
            if page.next_page_token.is_empty() {
                return Ok(ListHeadsResponse { heads: listed, ..page });
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Returns the current state of every head, then each change as it happens.
    ///
    /// # Errors
    /// As [`Client::classify_stream`].
    pub async fn watch(
        &self,
    ) -> Result<impl Stream<Item = Result<HeadEvent, Error>> + Send + Unpin + use<>, Error> {
        messages(self.heads.clone().watch_heads(WatchHeadsRequest {}).await)
    }
}

fn messages<T>(
    opened: Result<Response<Streaming<T>>, Status>,
) -> Result<impl Stream<Item = Result<T, Error>> + Send + Unpin, Error>
where
    T: Send + 'static,
{
    Ok(opened?.into_inner().map(|message| message.map_err(Error::from)))
}
