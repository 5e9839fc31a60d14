//! The error that serde carries through the decoder.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

use crate::settings::diagnostic::quote;

/// Why a part can't be read.
#[derive(Debug)]
pub(super) enum DecodeError {
    /// What a type has to say; it does not know where. Whoever asked it does.
    Message(String),
    /// A diagnostic has been noted.
    Noted,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message(message) => f.write_str(message),
            Self::Noted => f.write_str("see the diagnostics"),
        }
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Message(message.to_string())
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Message(format!(
            "expected {expected}, got {}",
            describe(&unexpected)
        ))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> Self {
        Self::Message(format!("expected {expected}, got {length} of them"))
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Message(format!("{field} is missing"))
    }

    fn duplicate_field(field: &'static str) -> Self {
        Self::Message(format!("{field} is written twice"))
    }
}

/// What serde met, in our users' words.
fn describe(unexpected: &Unexpected<'_>) -> String {
    match unexpected {
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Unsigned(value) => value.to_string(),
        Unexpected::Signed(value) => value.to_string(),
        Unexpected::Float(value) => value.to_string(),
        Unexpected::Str(text) => quote(text),
        Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "named settings".to_owned(),
        other => other.to_string(),
    }
}
