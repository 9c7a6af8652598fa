//! Addresses that the client accepts and refuses.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use turret_client::{Client, Error, RetryPolicy};

async fn refusal(url: &str) -> Error {
    Client::connect(url).await.unwrap_err()
}

#[tokio::test]
async fn https_is_refused_rather_than_sent_as_plain_text() {
    for url in ["https://127.0.0.1:1", "HTTPS://example.invalid"] {
        let error = refusal(url).await;
        assert!(matches!(error, Error::TlsUnsupported { .. }), "{url}: {error:?}");
        assert!(error.to_string().contains("TLS is not supported yet"), "{error}");
    }
}

#[tokio::test]
async fn invalid_url_is_named() {
    for url in ["", "nowhere", "127.0.0.1:50051", "ftp://127.0.0.1", "http://", "http://a b"] {
        let error = refusal(url).await;
        assert!(matches!(error, Error::InvalidUrl { .. }), "{url}: {error:?}");
        assert!(error.to_string().contains(&format!("{url:?}")), "{error}");
    }
}

#[tokio::test]
async fn unreachable_server_is_named() {
    let error = refusal("http://127.0.0.1:1").await;
    assert!(matches!(error, Error::Connect { .. }), "{error:?}");
    assert!(error.to_string().starts_with("cannot reach http://127.0.0.1:1 "), "{error}");
}

/// Bytes that a client sends before its first call: the preface, its settings and window.
const HTTP2_GREETING: usize = 24 + 33 + 13;

#[tokio::test]
async fn port_that_speaks_http1_is_not_taken_for_a_grpc_port() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut caller, _) = listener.accept().await.unwrap();
        let (mut greeting, mut call) = ([0; HTTP2_GREETING], [0; 1]);
        caller.read_exact(&mut greeting).await.unwrap();
        caller.read_exact(&mut call).await.unwrap();
        caller.write_all(b"HTTP/1.1 505 HTTP Version Not Supported\r\n\r\n").await.unwrap();
        // Until the client leaves: closing earlier would discard what was written.
        caller.read_to_end(&mut Vec::new()).await.unwrap();
    });
    let client = Client::builder(url).retry(RetryPolicy::NEVER).connect().await.unwrap();
    let error = client.heads(None).await.unwrap_err();
    assert!(error.to_string().contains("is this the server's gRPC port?"), "{error}");
}
