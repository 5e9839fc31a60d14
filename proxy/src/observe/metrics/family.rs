//! The metric families of one level: entry points, routers or services.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

use super::registered;

/// What requests are counted by.
#[derive(Clone, Copy, Debug)]
pub(super) enum Level {
    EntryPoint,
    Router,
    Service,
}

impl Level {
    fn prefix(self) -> &'static str {
        match self {
            Self::EntryPoint => "traefik_entrypoint",
            Self::Router => "traefik_router",
            Self::Service => "traefik_service",
        }
    }

    fn labels(self) -> &'static [&'static str] {
        match self {
            Self::EntryPoint => &["entrypoint"],
            Self::Router => &["router", "service"],
            Self::Service => &["service"],
        }
    }
}

/// Traefik's five families of one level. Labels stand in the order that the
/// fields tell, followed by the level's own.
#[derive(Debug)]
pub(super) struct Families {
    /// code, method, protocol, own; then the header labels.
    pub(super) requests: IntCounterVec,
    /// `tls_version`, `tls_cipher`, own.
    pub(super) tls: IntCounterVec,
    /// code, method, protocol, own.
    pub(super) duration: HistogramVec,
    /// As `duration`.
    pub(super) request_bytes: IntCounterVec,
    /// As `duration`.
    pub(super) response_bytes: IntCounterVec,
    /// How many header labels there are.
    pub(super) header_labels: usize,
}

impl Families {
    pub(super) fn new(
        registry: &Registry,
        level: Level,
        buckets: &[f64],
        header_labels: &[String],
    ) -> Result<Self, prometheus::Error> {
        let name = |what: &str| format!("{}_{what}", level.prefix());
        let outcome = [&["code", "method", "protocol"], level.labels()].concat();
        let tls = [&["tls_version", "tls_cipher"], level.labels()].concat();
        let mut requests = outcome.clone();
        requests.extend(header_labels.iter().map(String::as_str));
        let counters = |what: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name(what), help), labels)?;
            registered(registry, counters)
        };
        let duration = HistogramOpts::new(
            name("request_duration_seconds"),
            "Time from a request's head to the end of its response",
        )
        .buckets(buckets.to_vec());
        Ok(Self {
            requests: counters("requests_total", "Requests answered", &requests)?,
            tls: counters("requests_tls_total", "Requests that came over TLS", &tls)?,
            duration: registered(registry, HistogramVec::new(duration, &outcome)?)?,
            request_bytes: counters(
                "requests_bytes_total",
                "Bytes of request bodies read",
                &outcome,
            )?,
            response_bytes: counters(
                "responses_bytes_total",
                "Bytes of response bodies sent",
                &outcome,
            )?,
            header_labels: header_labels.len(),
        })
    }
}
