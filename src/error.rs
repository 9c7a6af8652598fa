//! The closed list of ways in which a request can fail.
//!
//! Every module has its own error enum with the facts as fields; what callers need from it (a kind, a stable reason and
//! the field of the request at fault) comes through [`ServiceError`]. Only the edge turns a kind into a gRPC code.

/// What a caller has to do about an error. The edge maps each kind to exactly one gRPC code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is wrong and will stay wrong: mend it.
    InvalidArgument,
    /// The request is more than this server ever takes at once: both numbers are in the message.
    OutOfRange,
    /// There is no such task.
    NotFound,
    /// The request named a head that is not the one serving.
    FailedPrecondition,
    /// No room now: retry after a short pause.
    ResourceExhausted,
    /// The caller's deadline passed before the answer could be given.
    DeadlineExceeded,
    /// The caller went away.
    Cancelled,
    /// Starting, draining or the device is lost: retry elsewhere.
    Unavailable,
    /// The method is part of the protocol but not of this build.
    Unimplemented,
    /// Our fault: callers get a generic text, the log has the detail.
    Internal,
}

/// What an error tells the caller of a request.
pub trait ServiceError: std::error::Error {
    fn kind(&self) -> ErrorKind;

    /// Stable name in SCREAMING_SNAKE_CASE for programs; never changes once released.
    fn reason(&self) -> &'static str;

    /// The field of the request at fault, under its protocol name.
    fn field(&self) -> Option<&'static str> {
        None
    }
}

/// A word that is none of those expected, in the command line, a file or a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {kind} {text:?}, expected {expected}")]
pub struct ParseNameError {
    /// What the word names, such as `solver`.
    pub kind: &'static str,
    pub text: String,
    /// The words that are known, as they are shown.
    pub expected: String,
}

impl ParseNameError {
    /// Quotes the known words: `"lbfgs" or "adam"`.
    pub fn new(kind: &'static str, text: &str, known: &[&str]) -> Self {
        let quoted: Vec<String> = known.iter().map(|word| format!("{word:?}")).collect();
        let expected = match &quoted[..] {
            [] => "nothing".to_owned(),
            [only] => only.clone(),
            [first @ .., last] => format!("{} or {last}", first.join(", ")),
        };
        Self { kind, text: text.to_owned(), expected }
    }

    /// Describes words that follow a rule rather than a list.
    pub fn expecting(kind: &'static str, text: &str, expected: impl Into<String>) -> Self {
        Self { kind, text: text.to_owned(), expected: expected.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_name_is_quoted_beside_the_known_ones() {
        let told = |known: &[&str]| ParseNameError::new("solver", "sgd", known).to_string();
        assert_eq!(told(&["lbfgs", "adam"]), r#"unknown solver "sgd", expected "lbfgs" or "adam""#);
        assert_eq!(told(&["a", "b", "c"]), r#"unknown solver "sgd", expected "a", "b" or "c""#);
        assert_eq!(told(&["lbfgs"]), r#"unknown solver "sgd", expected "lbfgs""#);
    }
}
