//! What can go wrong with one request, and what that means for it.

use std::error::Error;
use std::fmt;

use ::http::StatusCode;

/// A request that failed.
///
/// Retries read only [`ProxyError::retry`], the answer depends only on
/// [`ProxyError::kind`], and statistics ask for [`ErrorKind::side`].
#[derive(Debug)]
pub struct ProxyError {
    /// What happened.
    pub kind: ErrorKind,
    /// Whether trying again can hurt.
    pub retry: Retry,
    /// What is answered instead of what the kind says.
    pub declined: Option<Declined>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// The answer to a request for which there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declined {
    /// The status.
    pub status: StatusCode,
    /// Seconds after which the client may try again.
    pub retry_after: Option<u64>,
}

/// Whether a failed request may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The server may have acted on it.
    Never,
    /// Not a byte reached a server.
    Always,
    /// The connection died before a byte of the answer; most likely the server
    /// was just closing it.
    Idempotent,
}

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client's.
    Downstream,
    /// The server's, or that of the way to it.
    Upstream,
    /// Ours, or the configuration's.
    Internal,
}

/// What happened to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The client sent what must be refused.
    BadRequest,
    /// The TLS name and the host of the request don't go together.
    Misdirected,
    /// A method or transfer coding that is not spoken here.
    NotImplemented,
    /// The head of the request is too long.
    HeadTooLarge,
    /// The client went away.
    ClientGone,
    /// The client took too long to send its request.
    ClientTimeout,
    /// No router takes the request.
    NoRouter,
    /// The service has no server, or none that is up.
    NoServer,
    /// Too many requests wait already.
    QueueFull,
    /// No server had a free slot in time.
    QueueTimeout,
    /// The server can't be reached.
    Connect,
    /// The server did not let itself be connected to in time.
    ConnectTimeout,
    /// The connection broke before the answer.
    ConnectionLost,
    /// The server took too long to answer.
    ResponseTimeout,
    /// The server's answer is not HTTP, or not one to this request.
    BadResponse,
    /// A setting can't be obeyed, or a part of the proxy broke.
    Internal,
}

impl ErrorKind {
    /// Every kind, for tables and tests.
    pub const ALL: [Self; 16] = [
        Self::BadRequest,
        Self::Misdirected,
        Self::NotImplemented,
        Self::HeadTooLarge,
        Self::ClientGone,
        Self::ClientTimeout,
        Self::NoRouter,
        Self::NoServer,
        Self::QueueFull,
        Self::QueueTimeout,
        Self::Connect,
        Self::ConnectTimeout,
        Self::ConnectionLost,
        Self::ResponseTimeout,
        Self::BadResponse,
        Self::Internal,
    ];

    /// Whose fault it is.
    pub const fn side(self) -> Side {
        match self {
            Self::BadRequest
            | Self::Misdirected
            | Self::NotImplemented
            | Self::HeadTooLarge
            | Self::ClientGone
            | Self::ClientTimeout => Side::Downstream,
            Self::NoRouter | Self::Internal => Side::Internal,
            Self::NoServer
            | Self::QueueFull
            | Self::QueueTimeout
            | Self::Connect
            | Self::ConnectTimeout
            | Self::ConnectionLost
            | Self::ResponseTimeout
            | Self::BadResponse => Side::Upstream,
        }
    }

    const fn describe(self) -> &'static str {
        match self {
            Self::BadRequest => "malformed request",
            Self::Misdirected => "host and TLS name don't go together",
            Self::NotImplemented => "not implemented",
            Self::HeadTooLarge => "request head too large",
            Self::ClientGone => "client went away",
            Self::ClientTimeout => "client took too long",
            Self::NoRouter => "no router",
            Self::NoServer => "no server is up",
            Self::QueueFull => "queue is full",
            Self::QueueTimeout => "no server was free in time",
            Self::Connect => "can't connect",
            Self::ConnectTimeout => "connecting took too long",
            Self::ConnectionLost => "connection lost before the response",
            Self::ResponseTimeout => "response took too long",
            Self::BadResponse => "malformed response",
            Self::Internal => "internal error",
        }
    }
}

impl ProxyError {
    /// A failure that must not be retried.
    pub fn new(kind: ErrorKind) -> Self {
        Self {
            kind,
            retry: Retry::Never,
            declined: None,
            source: None,
        }
    }

    /// The same failure with its cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same failure, answered in another way.
    #[must_use]
    pub fn decline(mut self, declined: Declined) -> Self {
        self.declined = Some(declined);
        self
    }

    /// The same failure, to be retried or not.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }
}

impl From<ErrorKind> for ProxyError {
    fn from(kind: ErrorKind) -> Self {
        Self::new(kind)
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.describe())
    }
}

impl Error for ProxyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source
            .as_ref()
            .map(|source| source.as_ref() as &(dyn Error + 'static))
    }
}
