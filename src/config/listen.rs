//! The address of a listener as people type it.

use std::{
    net::{Ipv4Addr, SocketAddr, ToSocketAddrs as _},
    str::FromStr,
};

const EXPECTED: &str = "expected HOST:PORT such as \"127.0.0.1:50051\", \"localhost:50051\" or \
                        \"[::1]:50051\", or \":50051\" for all IPv4 addresses of this machine";

/// An address to listen on; a host's name is looked up, and its IPv4 address wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ListenAddress(pub(super) SocketAddr);

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self(address));
        }
        if text.contains("://") {
            return Err(format!("is a URL; {EXPECTED}"));
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(format!("has no port; {EXPECTED}"));
        };
        let port: u16 = port
            .parse()
            .map_err(|_| format!("port {port:?} is not a number from 0 to 65535; {EXPECTED}"))?;
        if host.is_empty() {
            return Ok(Self((Ipv4Addr::UNSPECIFIED, port).into()));
        }
        if host.contains([':', '[', ']', '/']) {
            return Err(format!("{host:?} is not a host; {EXPECTED}"));
        }
        let found = (host, port)
            .to_socket_addrs()
            .map_err(|error| format!("cannot look up host {host:?} ({error}); {EXPECTED}"))?;
        // IPv4 first.
        found
            .min_by_key(SocketAddr::is_ipv6)
            .map(Self)
            .ok_or_else(|| format!("host {host:?} has no address; {EXPECTED}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_read_as_people_type_them() {
        for (text, address) in [
            ("127.0.0.1:50051", "127.0.0.1:50051"),
            ("[::1]:50051", "[::1]:50051"),
            ("localhost:0", "127.0.0.1:0"),
            (":9090", "0.0.0.0:9090"),
        ] {
            let expected = ListenAddress(address.parse().unwrap());
            assert_eq!(text.parse(), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn other_listeners_are_refused_with_what_is_wrong_and_an_example() {
        for (text, wrong) in [
            ("", "has no port; "),
            ("foo", "has no port; "),
            ("127.0.0.1", "has no port; "),
            ("localhost:http", "port \"http\" is not a number"),
            (":70000", "port \"70000\" is not a number"),
            ("::1:50051", "\"::1\" is not a host; "),
            ("[localhost]:50051", "\"[localhost]\" is not a host; "),
            ("http://127.0.0.1:50051", "is a URL; "),
            ("no such host:50051", "cannot look up host \"no such host\""),
        ] {
            let error = text.parse::<ListenAddress>().unwrap_err();
            assert!(error.starts_with(wrong), "{text:?}: {error}");
            assert!(error.ends_with(EXPECTED), "{text:?}: {error}");
        }
    }
}
