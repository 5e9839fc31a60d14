//! Counters of one entry point, router or service, ready for the hot path.
//!
//! For each combination of status, method and protocol there is one row of
//! handles. Rows stand in a small sorted table that is copied when a new
//! combination turns up, and otherwise only read: recording takes no lock and
//! allocates nothing. What clients can vary at will is bounded: methods by a
//! list, header labels by [`MAX_HEADER_ROWS`].

use std::sync::Arc;
use std::time::Duration;

use ::http::{HeaderValue, Method, StatusCode};
use arc_swap::ArcSwap;
use prometheus::{Histogram, IntCounter};

use super::family::Families;
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
    rows: ArcSwap<Vec<Arc<Row>>>,
    tls_rows: ArcSwap<Vec<Arc<TlsRow>>>,
    header_rows: ArcSwap<Vec<Arc<HeaderRow>>>,
}

#[derive(Debug)]
struct Row {
    key: RowKey,
    /// Absent where requests are counted by header values too.
    requests: Option<IntCounter>,
    duration: Histogram,
    request_bytes: IntCounter,
    response_bytes: IntCounter,
}

#[derive(Debug)]
struct TlsRow {
    version: &'static str,
    cipher: &'static str,
    requests: IntCounter,
}

#[derive(Debug)]
struct HeaderRow {
    key: RowKey,
    values: Box<[HeaderValue]>,
    requests: IntCounter,
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
        let name = observation.method.as_str();
        let known = METHODS.iter().zip(0..).find(|(known, _)| **known == name);
        Self {
            code: observation.status.as_u16(),
            method: known.map_or(EXTENSION_METHOD, |(_, index)| index),
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

impl Scope {
    pub(super) fn new(families: Arc<Families>, labels: &[&str]) -> Self {
        Self {
            families,
            labels: labels.iter().map(|&label| label.into()).collect(),
            rows: ArcSwap::default(),
            tls_rows: ArcSwap::default(),
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
        let key = RowKey::of(observation);
        let row = self.row(key);
        match &row.requests {
            Some(requests) => requests.inc(),
            None => self
                .header_row(key, observation.header_values)
                .requests
                .inc(),
        }
        row.duration.observe(observation.duration.as_secs_f64());
        row.request_bytes.inc_by(observation.request_bytes);
        row.response_bytes.inc_by(observation.response_bytes);
        if let Some(tls) = observation.tls {
            self.tls_row(tls).requests.inc();
        }
    }

    fn row(&self, key: RowKey) -> Arc<Row> {
        let rows = self.rows.load();
        if let Ok(index) = rows.binary_search_by_key(&key, |row| row.key)
            && let Some(row) = rows.get(index)
        {
            return Arc::clone(row);
        }
        let added = Arc::new(self.new_row(key));
        self.rows.rcu(|rows| {
            let mut rows = Vec::clone(rows);
            if let Err(index) = rows.binary_search_by_key(&key, |row| row.key) {
                rows.insert(index, Arc::clone(&added));
            }
            rows
        });
        added
    }

    fn new_row(&self, key: RowKey) -> Row {
        let code = key.code.to_string();
        let labels = self.outcome_labels(&code, key);
        let families = &self.families;
        Row {
            key,
            requests: (families.header_labels == 0)
                .then(|| families.requests.with_label_values(&labels)),
            duration: families.duration.with_label_values(&labels),
            request_bytes: families.request_bytes.with_label_values(&labels),
            response_bytes: families.response_bytes.with_label_values(&labels),
        }
    }

    fn outcome_labels<'a>(&'a self, code: &'a str, key: RowKey) -> Vec<&'a str> {
        let mut labels = vec![code, key.method(), key.protocol()];
        labels.extend(self.labels.iter().map(|label| &**label));
        labels
    }

    fn tls_row(&self, tls: &TlsConnection) -> Arc<TlsRow> {
        let find = |rows: &[Arc<TlsRow>]| {
            rows.iter()
                .find(|row| row.cipher == tls.cipher && row.version == tls.version)
                .cloned()
        };
        if let Some(row) = find(&self.tls_rows.load()) {
            return row;
        }
        let labels = self.tls_labels(tls.version, tls.cipher);
        let added = Arc::new(TlsRow {
            version: tls.version,
            cipher: tls.cipher,
            requests: self.families.tls.with_label_values(&labels),
        });
        self.tls_rows.rcu(|rows| {
            let mut rows = Vec::clone(rows);
            if find(&rows).is_none() {
                rows.push(Arc::clone(&added));
            }
            rows
        });
        added
    }

    fn tls_labels<'a>(&'a self, version: &'a str, cipher: &'a str) -> Vec<&'a str> {
        let mut labels = vec![version, cipher];
        labels.extend(self.labels.iter().map(|label| &**label));
        labels
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
        let other = vec![HeaderValue::from_static(OTHER); self.families.header_labels];
        find_header_row(&rows, key, &other)
            .unwrap_or_else(|| self.add_header_row(key, other.into()))
    }

    fn add_header_row(&self, key: RowKey, values: Box<[HeaderValue]>) -> Arc<HeaderRow> {
        let code = key.code.to_string();
        let texts = label_texts(&values, self.families.header_labels);
        let mut labels = self.outcome_labels(&code, key);
        labels.extend(texts.iter().map(String::as_str));
        let added = Arc::new(HeaderRow {
            key,
            requests: self.families.requests.with_label_values(&labels),
            values,
        });
        self.header_rows.rcu(|rows| {
            let mut rows = Vec::clone(rows);
            if find_header_row(&rows, key, &added.values).is_none() {
                rows.push(Arc::clone(&added));
            }
            rows
        });
        added
    }

    /// Removes all series of this scope. Nobody may record in it afterwards.
    pub(super) fn remove(&self) {
        for row in self.rows.swap(Arc::default()).iter() {
            let code = row.key.code.to_string();
            let labels = self.outcome_labels(&code, row.key);
            let _ = self.families.requests.remove_label_values(&labels);
            let _ = self.families.duration.remove_label_values(&labels);
            let _ = self.families.request_bytes.remove_label_values(&labels);
            let _ = self.families.response_bytes.remove_label_values(&labels);
        }
        for row in self.tls_rows.swap(Arc::default()).iter() {
            let labels = self.tls_labels(row.version, row.cipher);
            let _ = self.families.tls.remove_label_values(&labels);
        }
        for row in self.header_rows.swap(Arc::default()).iter() {
            let code = row.key.code.to_string();
            let texts = label_texts(&row.values, self.families.header_labels);
            let mut labels = self.outcome_labels(&code, row.key);
            labels.extend(texts.iter().map(String::as_str));
            let _ = self.families.requests.remove_label_values(&labels);
        }
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
