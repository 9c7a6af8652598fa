//! The caller's deadline, from the `grpc-timeout` header of the gRPC protocol over HTTP/2.

use std::time::{Duration, Instant};

use tonic::metadata::MetadataMap;

/// Answers this much early: at the deadline tonic itself answers CANCELLED, not DEADLINE_EXCEEDED.
const HEAD_START: Duration = Duration::from_millis(5);

/// Returns when the caller stops waiting; `None` without a readable `grpc-timeout` header.
pub(super) fn deadline(metadata: &MetadataMap, arrived: Instant) -> Option<Instant> {
    let timeout = parse(metadata.get("grpc-timeout")?.to_str().ok()?)?;
    arrived.checked_add(timeout.saturating_sub(HEAD_START.min(timeout / 10)))
}

/// Returns the earlier of the stream's deadline and the request's own; `timeout_ms` 0 is none.
pub(super) fn earlier(
    stream: Option<Instant>,
    arrived: Instant,
    timeout_ms: u32,
) -> Option<Instant> {
    let timeout = Duration::from_millis(timeout_ms.into());
    let own = (timeout_ms > 0).then(|| arrived.checked_add(timeout)).flatten();
    [stream, own].into_iter().flatten().min()
}

/// Parses one to eight digits and a unit.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number =
        (1..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = is_number.then(|| digits.parse().ok()).flatten()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_deadline_of_stream_and_request_holds() {
        let now = Instant::now();
        let after = |ms: u64| Some(now + Duration::from_millis(ms));
        assert_eq!(earlier(None, now, 0), None);
        assert_eq!(earlier(after(7), now, 0), after(7));
        assert_eq!(earlier(None, now, 5), after(5));
        assert_eq!(earlier(after(7), now, 5), after(5));
        assert_eq!(earlier(after(3), now, 5), after(3));
    }

    #[test]
    fn timeout_parses_every_unit_and_nothing_else() {
        assert_eq!(parse("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(parse("2M"), Some(Duration::from_secs(120)));
        assert_eq!(parse("3S"), Some(Duration::from_secs(3)));
        assert_eq!(parse("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse("99999999u"), Some(Duration::from_micros(99_999_999)));
        assert_eq!(parse("0n"), Some(Duration::ZERO));
        for text in ["", "S", "1", "1s", "-1S", "+1S", "123456789S", "1 S", "1ä"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
