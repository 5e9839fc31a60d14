//! The access log: a line for each request, in Traefik's formats.
//!
//! A finished request becomes an owned [`Entry`] and goes through a bounded
//! queue to one writer thread, which turns it into text and writes it. Nothing
//! here makes a request wait: an entry that finds the queue full is dropped and
//! counted. Whatever clients send is escaped, so that one request is one line.

mod clf;
mod entry;
mod field;
mod filter;
mod format;
mod header;
mod json;
mod sink;
mod writer;

use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use thiserror::Error;

pub(super) use self::entry::{Entry, Origin};
use self::filter::Filter;
use self::format::Formatter;
use self::header::HeaderFilter;
use self::sink::Sink;
use self::writer::Writer;
use crate::config::startup::{self, AccessLogFormat};

/// Lines that may wait for the writer where nothing is configured.
const DEFAULT_CAPACITY: NonZeroUsize = NonZeroUsize::new(4096).expect("4096 is not zero");

/// Most lines that may wait, whatever is configured: memory is bounded.
const MAX_CAPACITY: usize = 1 << 20;

/// The access log can't be set up as configured.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AccessLogError {
    /// A status code filter is neither a code nor a range.
    #[error("{0:?} is neither a status code nor a range such as 400-499")]
    StatusCodes(String),
    /// The file can't be opened.
    #[error("can't open the access log {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The system has no thread left.
    #[error("can't start the access log's writer")]
    Thread(#[source] io::Error),
}

/// Takes finished requests down. Shared by all workers.
#[derive(Debug)]
pub struct AccessLog {
    writer: Writer,
    filter: Filter,
    request_headers: HeaderFilter,
    response_headers: HeaderFilter,
    keep_query: bool,
    add_internals: bool,
    count: AtomicU64,
}

/// Headers that will be logged.
pub(super) type Headers = Vec<(HeaderName, HeaderValue)>;

impl AccessLog {
    /// Opens the log and starts its writer.
    ///
    /// # Errors
    /// If the file can't be opened, or a filter can't be read.
    pub fn start(config: &startup::AccessLog) -> Result<Self, AccessLogError> {
        let sink = Sink::open(&config.file_path)?;
        Self::with_sink(config, sink)
    }

    fn with_sink(config: &startup::AccessLog, sink: Sink) -> Result<Self, AccessLogError> {
        let filter = Filter::new(config.filters.as_ref())?;
        let fields = config.fields.clone().unwrap_or_default();
        let headers = fields.headers.as_ref();
        let (request_headers, response_headers) = match config.format {
            AccessLogFormat::Json => (HeaderFilter::all(headers), HeaderFilter::all(headers)),
            AccessLogFormat::Common | AccessLogFormat::GenericClf => (
                HeaderFilter::only(&clf::HEADERS, headers),
                HeaderFilter::none(),
            ),
        };
        let capacity = NonZeroUsize::new(config.buffering_size).unwrap_or(DEFAULT_CAPACITY);
        let formatter = Formatter::new(config.format, &fields);
        let writer = Writer::start(formatter, sink, capacity.get().min(MAX_CAPACITY))
            .map_err(AccessLogError::Thread)?;
        Ok(Self {
            writer,
            filter,
            request_headers,
            response_headers,
            keep_query: field::keeps_query(&fields),
            add_internals: config.add_internals,
            count: AtomicU64::new(0),
        })
    }

    /// How many lines were dropped so far.
    pub fn dropped(&self) -> Arc<AtomicU64> {
        self.writer.dropped()
    }

    /// Closes the file and opens it again under its name, before the next line
    /// is written. For programs that move log files away.
    pub fn reopen(&self) {
        self.writer.reopen();
    }

    /// Writes what waits and stops, at most for `limit`. Tells whether all was
    /// written. Later entries are dropped.
    pub fn close(&self, limit: Duration) -> bool {
        self.writer.close(limit)
    }

    /// The number of a request, counted from 1.
    pub(super) fn next_count(&self) -> u64 {
        self.count.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whether requests to internal services are logged.
    pub(super) fn adds_internals(&self) -> bool {
        self.add_internals
    }

    /// Whether the query is part of the logged path.
    pub(super) fn keeps_query(&self) -> bool {
        self.keep_query
    }

    /// Whether a request with this outcome is logged.
    pub(super) fn wants(&self, status: StatusCode, retries: u32, duration: Duration) -> bool {
        self.filter.wants(status, retries, duration)
    }

    /// Whether any header of a response may be logged.
    pub(super) fn wants_response_headers(&self) -> bool {
        !self.response_headers.is_none()
    }

    /// Whether any header of a request may be logged.
    pub(super) fn wants_request_headers(&self) -> bool {
        !self.request_headers.is_none()
    }

    /// The headers of a request that are logged, secrets redacted.
    pub(super) fn request_headers(&self, headers: &HeaderMap) -> Headers {
        self.request_headers.capture(headers)
    }

    /// The headers of a response that are logged, secrets redacted.
    pub(super) fn response_headers(&self, headers: &HeaderMap) -> Headers {
        self.response_headers.capture(headers)
    }

    /// Queues an entry, or drops and counts it.
    pub(super) fn submit(&self, entry: Entry) {
        self.writer.submit(entry);
    }
}

#[cfg(test)]
mod tests;
