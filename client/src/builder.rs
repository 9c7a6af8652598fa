//! The settings of a client.

use std::time::Duration;

use tonic::transport::Endpoint;

use crate::{
    Client, Error, RetryPolicy,
    proto::{classifier_client::ClassifierClient, heads_client::HeadsClient},
};

/// A server that vanished silently is detected after these two together.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The settings of a [`Client`], made by [`Client::builder`].
///
/// Connections are plain text for now: an `https://` address fails with
/// [`Error::TlsUnsupported`]. TLS options will be methods of this builder.
#[derive(Debug, Clone)]
#[must_use]
pub struct ClientBuilder {
    url: String,
    connect_timeout: Duration,
    timeout: Duration,
    max_message_bytes: usize,
    retry: RetryPolicy,
}

impl ClientBuilder {
    pub(crate) fn new(url: String) -> Self {
        Self {
            url,
            connect_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(30),
            max_message_bytes: 64 << 20,
            retry: RetryPolicy::default(),
        }
    }

    /// Bounds the time to open a connection, 10 s by default.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Bounds the time of a call including retries, 30 s by default.
    ///
    /// [`Client::classify_within`] overrides it for a single call. Streams have none.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets the maximum size of an answer, 64 MiB by default; the server bounds requests.
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// Sets when calls are retried.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Opens the connection.
    ///
    /// # Errors
    /// [`Error::InvalidUrl`] or [`Error::TlsUnsupported`] if the address is not
    /// `http://HOST:PORT`, [`Error::Connect`] if no server answers there.
    pub async fn connect(self) -> Result<Client, Error> {
        let channel = self
            .endpoint()?
            .connect()
            .await
            .map_err(|source| Error::Connect { url: self.url, source })?;
        let classifier = ClassifierClient::new(channel.clone())
            .max_decoding_message_size(self.max_message_bytes);
        let heads = HeadsClient::new(channel).max_decoding_message_size(self.max_message_bytes);
        Ok(Client { classifier, heads, timeout: self.timeout, retry: self.retry })
    }

    fn endpoint(&self) -> Result<Endpoint, Error> {
        let url = || self.url.clone();
        let endpoint =
            Endpoint::from_shared(url()).map_err(|_| Error::InvalidUrl { url: url() })?;
        match endpoint.uri().scheme_str() {
            Some("http") => Ok(endpoint
                .connect_timeout(self.connect_timeout)
                .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
                .keep_alive_timeout(KEEPALIVE_TIMEOUT)),
            Some("https") => Err(Error::TlsUnsupported { url: url() }),
            Some(_) | None => Err(Error::InvalidUrl { url: url() }),
        }
    }
}
