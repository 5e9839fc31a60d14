//! Shows control of a name by a record in the DNS (RFC 8555 §8.4).

use std::fmt;

use futures_util::future::BoxFuture;
use thiserror::Error;

/// Puts the record of a challenge into the DNS, and takes it away again.
pub trait DnsSolver: fmt::Debug + Send + Sync {
    /// Adds `value` to the TXT records of the challenge for `name`, and returns once
    /// the record is where the settings want it to be.
    ///
    /// `name` is the identifier without `*.`, `value` the digest of the key
    /// authorization as base64url. Two values of one name may be present at once.
    /// After an error the caller cleans up as after success.
    fn present<'a>(&'a self, name: &'a str, value: &'a str) -> BoxFuture<'a, Result<(), DnsError>>;

    /// Takes that value away; other values of the name stay. No record is no error.
    fn cleanup<'a>(&'a self, name: &'a str, value: &'a str) -> BoxFuture<'a, Result<(), DnsError>>;
}

/// A record can't be put into the DNS, taken away, or seen there.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DnsError {
    /// The settings name no provider that is known, or leave out what it needs.
    #[error("{0}")]
    Settings(String),
    /// The provider did not do it.
    #[error("{provider}: {message}")]
    Provider {
        /// Its code.
        provider: &'static str,
        /// What it says, or why it can't be asked.
        message: String,
    },
    /// A question to the DNS has no usable answer.
    #[error("{0}")]
    Lookup(String),
    /// The record was put there, but is not seen in time.
    #[error("the record of {name} is not seen after {seconds} s: {last}")]
    NotSeen {
        /// The record's name.
        name: String,
        /// How long was looked for it.
        seconds: u64,
        /// What was wrong at the last look.
        last: String,
    },
}
