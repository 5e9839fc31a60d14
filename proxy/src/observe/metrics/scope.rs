//! Counters of one entry point, router or service, ready for the hot path.
//!
//! For each combination of status, method and protocol each worker has a row of
//! its own, which it alone writes: recording takes no lock, allocates nothing
//! but a new row, and shares no memory with other workers. A scrape adds the
//! rows up. What clients can vary at will is bounded: methods by a list, header
//! labels by [`MAX_HEADER_ROWS`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use ::http::{HeaderValue, Method, StatusCode};
use arc_swap::ArcSwap;

use super::family::Families;
use super::table::Table;
use crate::http::{Protocol, TlsConnection};

/// Most distinct combinations with values of headers; beyond it they count as [`OTHER`].
const MAX_HEADER_ROWS: usize = 256;

/// Longest header value that becomes a label.
const MAX_HEADER_VALUE: usize = 128;

/// The label of header values that are too many or too long.
const OTHER: &str = "other";

/// The methods that Traefik counts by name; the last stands for all others.
const METHODS: [&str; 11] = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "CONNECT",
    "OPTIONS",
    "TRACE",
    "PATCH",
    "PRI",
    "EXTENSION_METHOD",
];

/// What is counted of one request.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// The status that the client was sent.
    pub status: StatusCode,
    /// The method.
    pub method: &'a Method,
    /// HTTP, WebSocket or server-sent events.
    pub protocol: Protocol,
    /// Time from the request's head to the response's end.
    pub duration: Duration,
    /// Bytes of its body that were read.
    pub request_bytes: u64,
    /// Bytes of the response's body that were sent.
    pub response_bytes: u64,
    /// TLS, if the client speaks it.
    pub tls: Option<&'a TlsConnection>,
    /// Values of the headers that become labels, empty where one is missing.
    pub header_values: &'a [HeaderValue],
}

/// The counters of one entry point, router or service.
#[derive(Debug)]
pub struct Scope {
    families: Arc<Families>,
    labels: Box<[Box<str>]>,
    rows: Table<Row>,
    tls_rows: Table<TlsRow>,
    header_rows: ArcSwap<Vec<Arc<HeaderRow>>>,
}

/// One worker's counters of one outcome.
#[derive(Debug)]
struct Row {
    worker: u32,
    key: RowKey,
    /// Requests by duration: one bucket more than there are bounds.
    durations: Box<[AtomicU64]>,
    nanoseconds: AtomicU64,
    request_bytes: AtomicU64,
    response_bytes: AtomicU64,
}

/// One worker's requests over one kind of TLS.
#[derive(Debug)]
struct TlsRow {
    worker: u32,
    version: &'static str,
    cipher: &'static str,
    requests: AtomicU64,
}

/// All workers' requests with certain header values.
#[derive(Debug)]
struct HeaderRow {
    key: RowKey,
    values: Box<[HeaderValue]>,
    requests: AtomicU64,
}

/// All workers' rows of one outcome together.
#[derive(Clone, Debug, Default)]
pub(super) struct Counted {
    pub(super) durations: Vec<u64>,
    pub(super) nanoseconds: u64,
    pub(super) request_bytes: u64,
    pub(super) response_bytes: u64,
}

impl Counted {
    pub(super) fn requests(&self) -> u64 {
        self.durations.iter().sum()
    }

    fn add(&mut self, row: &Row) {
        self.durations.resize(row.durations.len(), 0);
        for (sum, count) in self.durations.iter_mut().zip(&row.durations) {
            *sum += count.load(Relaxed);
        }
        self.nanoseconds += row.nanoseconds.load(Relaxed);
        self.request_bytes += row.request_bytes.load(Relaxed);
        self.response_bytes += row.response_bytes.load(Relaxed);
    }
}

/// Code, method and protocol under the names of their labels.
pub(super) type Outcome<'a> = [(&'static str, &'a str); 3];

thread_local! {
    /// Tells threads apart, for good.
    static WORKER: u32 = {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        NEXT.fetch_add(1, Relaxed)
    };
}

/// Adds to a counter that only this thread writes.
fn add(counter: &AtomicU64, count: u64) {
    if count > 0 {
        counter.store(counter.load(Relaxed).wrapping_add(count), Relaxed);
    }
}

/// Status, method and protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RowKey {
    code: u16,
    method: u8,
    protocol: u8,
}

impl RowKey {
    fn of(observation: &Observation<'_>) -> Self {
        Self {
            code: observation.status.as_u16(),
            method: method(observation.method),
            protocol: match observation.protocol {
                Protocol::Http => 0,
                Protocol::ServerSentEvents => 1,
                Protocol::WebSocket => 2,
            },
        }
    }

    fn method(self) -> &'static str {
        let name = METHODS.get(usize::from(self.method));
        name.copied().unwrap_or("EXTENSION_METHOD")
    }

    /// The labels that it stands for; `code` is its code as text.
    fn labels(self, code: &str) -> Outcome<'_> {
        [
            ("code", code),
            ("method", self.method()),
            ("protocol", self.protocol()),
        ]
    }

    fn protocol(self) -> &'static str {
        match self.protocol {
            0 => "http",
            1 => "sse",
            _ => "websocket",
        }
    }
}

/// The place of the last of [`METHODS`].
const EXTENSION_METHOD: u8 = 10;

/// The place of a method in [`METHODS`].
fn method(method: &Method) -> u8 {
    if *method == Method::GET {
        return 0;
    }
    let name = method.as_str();
    let known = METHODS.iter().zip(0..).find(|(known, _)| **known == name);
    known.map_or(EXTENSION_METHOD, |(_, index)| index)
}

impl Scope {
    pub(super) fn new(families: Arc<Families>, labels: &[&str]) -> Self {
        Self {
            families,
            labels: labels.iter().map(|&label| label.into()).collect(),
            rows: Table::new(),
            tls_rows: Table::new(),
            header_rows: ArcSwap::default(),
        }
    }

    /// A scope of a level, if the level is measured.
    pub(super) fn of<const N: usize>(
        level: Option<&Arc<Families>>,
        labels: [&str; N],
    ) -> Option<Arc<Self>> {
        level.map(|families| Arc::new(Self::new(Arc::clone(families), &labels)))
    }

    /// Counts a request.
    pub fn record(&self, observation: &Observation<'_>) {
        let worker = WORKER.with(|worker| *worker);
        let key = RowKey::of(observation);
        self.count(self.row(worker, key), observation);
        if !self.families.header_labels.is_empty() {
            let row = self.header_row(key, observation.header_values);
            row.requests.fetch_add(1, Relaxed);
        }
        if let Some(tls) = observation.tls {
            add(&self.tls_row(worker, tls).requests, 1);
        }
    }

    fn count(&self, row: &Row, observation: &Observation<'_>) {
        let nanoseconds = u64::try_from(observation.duration.as_nanos()).unwrap_or(u64::MAX);
        let mut limits = self.families.limits.iter();
        let bucket = limits.position(|limit| nanoseconds <= *limit);
        let bucket = bucket.map_or_else(|| row.durations.last(), |at| row.durations.get(at));
        if let Some(bucket) = bucket {
            add(bucket, 1);
        }
        add(&row.nanoseconds, nanoseconds);
        add(&row.request_bytes, observation.request_bytes);
        add(&row.response_bytes, observation.response_bytes);
    }

    fn row(&self, worker: u32, key: RowKey) -> &Row {
        let number = usize::from(key.code) + worker as usize;
        let is = |row: &Row| row.worker == worker && row.key == key;
        self.rows.find_or_add(number, is, || Row {
            worker,
            key,
            durations: (0..=self.families.limits.len())
                .map(|_| AtomicU64::new(0))
                .collect(),
            nanoseconds: AtomicU64::new(0),
            request_bytes: AtomicU64::new(0),
            response_bytes: AtomicU64::new(0),
        })
    }

    fn tls_row(&self, worker: u32, tls: &TlsConnection) -> &TlsRow {
        let is = |row: &TlsRow| {
            row.worker == worker && row.cipher == tls.cipher && row.version == tls.version
        };
        self.tls_rows.find_or_add(worker as usize, is, || TlsRow {
            worker,
            version: tls.version,
            cipher: tls.cipher,
            requests: AtomicU64::new(0),
        })
    }

    /// The values of its level's own labels.
    pub(super) fn labels(&self) -> &[Box<str>] {
        &self.labels
    }

    /// What was counted of each outcome; `see` gets its labels with it.
    pub(super) fn for_each_outcome(&self, mut see: impl FnMut(&Outcome<'_>, &Counted)) {
        let mut outcomes: BTreeMap<RowKey, Counted> = BTreeMap::new();
        for row in self.rows.iter() {
            outcomes.entry(row.key).or_default().add(row);
        }
        for (key, counted) in &outcomes {
            see(&key.labels(&key.code.to_string()), counted);
        }
    }

    /// Requests by outcome and header values.
    pub(super) fn for_each_header_row(&self, mut see: impl FnMut(&Outcome<'_>, &[String], u64)) {
        for row in self.header_rows.load().iter() {
            let texts = label_texts(&row.values, self.families.header_labels.len());
            let code = row.key.code.to_string();
            see(&row.key.labels(&code), &texts, row.requests.load(Relaxed));
        }
    }

    /// Requests by version and cipher suite of TLS.
    pub(super) fn tls_counts(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        let mut counts = BTreeMap::new();
        for row in self.tls_rows.iter() {
            *counts.entry((row.version, row.cipher)).or_default() += row.requests.load(Relaxed);
        }
        counts
    }

    fn header_row(&self, key: RowKey, values: &[HeaderValue]) -> Arc<HeaderRow> {
        let is_short = values.iter().all(|value| value.len() <= MAX_HEADER_VALUE);
        let rows = self.header_rows.load();
        if is_short && let Some(row) = find_header_row(&rows, key, values) {
            return row;
        }
        if is_short && rows.len() < MAX_HEADER_ROWS {
            return self.add_header_row(key, values.into());
        }
        let other = vec![HeaderValue::from_static(OTHER); self.families.header_labels.len()];
        find_header_row(&rows, key, &other)
            .unwrap_or_else(|| self.add_header_row(key, other.into()))
    }

    fn add_header_row(&self, key: RowKey, values: Box<[HeaderValue]>) -> Arc<HeaderRow> {
        let added = Arc::new(HeaderRow {
            key,
            requests: AtomicU64::new(0),
            values,
        });
        let mut found = Arc::clone(&added);
        self.header_rows.rcu(|rows| {
            let mut rows = Vec::clone(rows);
            match find_header_row(&rows, key, &added.values) {
                Some(row) => found = row,
                None => {
                    rows.push(Arc::clone(&added));
                    found = Arc::clone(&added);
                }
            }
            rows
        });
        found
    }
}

fn find_header_row(
    rows: &[Arc<HeaderRow>],
    key: RowKey,
    values: &[HeaderValue],
) -> Option<Arc<HeaderRow>> {
    rows.iter()
        .find(|row| row.key == key && *row.values == *values)
        .cloned()
}

/// Exactly `count` label values, empty where a header value is missing.
fn label_texts(values: &[HeaderValue], count: usize) -> Vec<String> {
    let mut texts: Vec<String> = values
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .collect();
    texts.resize(count, String::new());
    texts
}
