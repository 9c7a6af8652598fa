//! The closed list of ways in which a request can fail.
//!
//! Every module has its own error enum, with the facts as fields. [`ServiceError`] gives callers a
//! kind, a stable reason and the field at fault. Only the edge maps a kind to a gRPC code.

/// What a caller should do about an error; the edge maps each kind to exactly one gRPC code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is wrong and retrying does not help: fix it.
    InvalidArgument,
    /// The request exceeds what this server ever accepts at once; the message has both numbers.
    OutOfRange,
    /// No such task is served.
    NotFound,
    /// The request requires a head other than the one that serves.
    FailedPrecondition,
    /// No room now: retry after a short pause.
    ResourceExhausted,
    /// The deadline passed, or would pass before the answer.
    DeadlineExceeded,
    /// The caller went away.
    Cancelled,
    /// The server is starting, draining or has lost its device: retry elsewhere.
    Unavailable,
    /// The protocol has this method, this build does not.
    Unimplemented,
    /// A fault of the server: callers get a generic text, the log has the detail.
    Internal,
}

/// What an error tells the caller of a request.
pub trait ServiceError: std::error::Error {
    fn kind(&self) -> ErrorKind;

    /// Returns a stable SCREAMING_SNAKE_CASE name for programs, which never changes once released.
    fn reason(&self) -> &'static str;

    /// Returns the request field at fault, under its protocol name.
    fn field(&self) -> Option<&'static str> {
        None
    }
}

/// An unknown name in a command line, a file or a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {kind} {text:?}, expected {expected}")]
pub struct ParseNameError {
    /// What is being named, such as `solver`.
    pub kind: &'static str,
    pub text: String,
    /// The known names, formatted for display.
    pub expected: String,
}

impl ParseNameError {
    /// Lists the known names in quotes: `"lbfgs" or "adam"`.
    pub fn new(kind: &'static str, text: &str, known: &[&str]) -> Self {
        let quoted: Vec<String> = known.iter().map(|name| format!("{name:?}")).collect();
        let expected = match &quoted[..] {
            [] => "nothing".to_owned(),
            [only] => only.clone(),
            [first @ .., last] => format!("{} or {last}", first.join(", ")),
        };
        Self { kind, text: text.to_owned(), expected }
    }

    /// Describes names that follow a rule rather than a list.
    pub fn expecting(kind: &'static str, text: &str, expected: impl Into<String>) -> Self {
        Self { kind, text: text.to_owned(), expected: expected.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_name_is_reported_with_the_known_ones() {
        let text = |known: &[&str]| ParseNameError::new("solver", "sgd", known).to_string();
        assert_eq!(text(&["lbfgs", "adam"]), r#"unknown solver "sgd", expected "lbfgs" or "adam""#);
        assert_eq!(text(&["a", "b", "c"]), r#"unknown solver "sgd", expected "a", "b" or "c""#);
        assert_eq!(text(&["lbfgs"]), r#"unknown solver "sgd", expected "lbfgs""#);
    }
}
