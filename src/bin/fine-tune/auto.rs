//! Settings that may be `auto`, which leaves the choice to the program.

use std::{fmt, str::FromStr};

/// `auto`, or a value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Auto<T>(pub(crate) Option<T>);

impl<T: FromStr<Err: fmt::Display>> FromStr for Auto<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self(None)),
            value => value
                .parse()
                .map(|value| Self(Some(value)))
                .map_err(|error| format!("{error}, or auto")),
        }
    }
}
