//! Addresses that the client accepts and refuses.

use turret_client::{Client, Error};

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
    assert_eq!(error.to_string(), "cannot reach http://127.0.0.1:1");
}
