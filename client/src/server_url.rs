//! The address of a server as people type it.

use std::{fmt, str::FromStr};

use tonic::transport::Uri;

use crate::Error;

/// The port where `turret serve` listens unless told otherwise.
const DEFAULT_PORT: u16 = 50051;

/// The `http://HOST:PORT` of a server, for programs that read it from a person.
///
/// It is also read from `HOST:PORT`, `HOST` (at port 50051), `:PORT` (on `localhost`) and, in
/// brackets, from an IPv6 address such as `[::1]:50051`.
///
/// # Errors
/// Parsing gives [`Error::TlsUnsupported`] for `https://`, and [`Error::InvalidAddress`] for
/// anything else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerUrl(String);

impl ServerUrl {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServerUrl {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || Error::InvalidAddress { address: text.to_owned() };
        let address = text.trim();
        let has_scheme = address.contains("://");
        let is_port = address.strip_prefix(':').is_some_and(|port| !port.contains(':'));
        let url = match address {
            _ if has_scheme => address.to_owned(),
            // The form in which `turret serve --listen` takes it.
            _ if is_port => format!("http://localhost{address}"),
            _ => format!("http://{address}"),
        };
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(Error::TlsUnsupported { url: text.to_owned() }),
            Some(_) | None => return Err(invalid()),
        }
        let authority = uri.authority().ok_or_else(invalid)?;
        let is_bare = uri.path_and_query().is_none_or(|path| path == "/");
        let after_host = authority.as_str().strip_prefix(authority.host()).ok_or_else(invalid)?;
        if authority.host().is_empty() || !is_bare {
            return Err(invalid());
        }
        match (after_host, authority.port_u16()) {
            ("", _) if has_scheme => Ok(Self(format!("http://{authority}"))),
            ("", _) => Ok(Self(format!("http://{authority}:{DEFAULT_PORT}"))),
            (_, Some(1..)) => Ok(Self(format!("http://{authority}"))),
            (_, Some(0) | None) => Err(invalid()),
        }
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<ServerUrl> for String {
    fn from(url: ServerUrl) -> Self {
        url.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_type_them() {
        for (text, url) in [
            ("http://127.0.0.1:50051", "http://127.0.0.1:50051"),
            ("http://127.0.0.1:50051/", "http://127.0.0.1:50051"),
            ("127.0.0.1:50052", "http://127.0.0.1:50052"),
            ("camera-pc:50051", "http://camera-pc:50051"),
            (" camera-pc:50051\n", "http://camera-pc:50051"),
            ("camera-pc", "http://camera-pc:50051"),
            ("http://ingress.example", "http://ingress.example"),
            (":47051", "http://localhost:47051"),
            ("[::1]:50051", "http://[::1]:50051"),
            ("[::1]", "http://[::1]:50051"),
            ("http://[::1]:50051", "http://[::1]:50051"),
            ("HTTP://camera-pc:50051", "http://camera-pc:50051"),
        ] {
            assert_eq!(text.parse::<ServerUrl>().unwrap().as_str(), url, "{text:?}");
        }
    }

    #[test]
    fn https_is_never_read_as_plain_text() {
        for text in ["https://camera-pc:50051", "HTTPS://camera-pc", " https://[::1]:50051"] {
            let error = text.parse::<ServerUrl>().unwrap_err();
            assert!(matches!(error, Error::TlsUnsupported { .. }), "{text:?}: {error:?}");
        }
    }

    #[test]
    fn other_addresses_are_refused_with_examples() {
        for text in [
            "",
            "::1",
            "::1:50051",
            "host:",
            "host:port",
            "host:0",
            "host:70000",
            ":",
            ":0",
            ":port",
            ":50051:50051",
            "http://:50051",
            "ftp://host:50051",
            "unix:///run/turret",
            "host:50051/path",
            "http://host:50051/?task=a",
            "user@host:50051",
            "a b",
            "https:host",
        ] {
            let error = text.parse::<ServerUrl>().unwrap_err();
            assert!(matches!(error, Error::InvalidAddress { .. }), "{text:?}: {error:?}");
            let told = error.to_string();
            for form in ["HOST:PORT such as", "\"[::1]:50051\"", "HOST for port 50051", ":PORT on"]
            {
                assert!(told.contains(form), "{form:?} is not in {told}");
            }
        }
    }
}
