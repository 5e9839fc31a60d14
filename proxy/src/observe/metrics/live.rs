//! Gauges that are read when metrics are scraped.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{Error, GaugeVec, IntCounter, IntCounterVec, IntGaugeVec, Opts};

use super::sample::{
    CertificateSample, LiveState, ProviderSample, ResolverSample, ServerSample, ServiceSample,
};
use super::{mesh, unix_seconds};

/// One of Traefik's own metrics, shown with the other ones of services.
const SERVER_UP: &str = "traefik_service_server_up";

const SERVER_LABELS: [&str; 2] = ["service", "url"];

/// Name, help, and where the value is from.
type Metric = (&'static str, &'static str, fn(&ServerSample) -> Option<u64>);

const SERVER_GAUGES: &[Metric] = &[
    (SERVER_UP, "Whether a server is up", |it| Some(it.up.into())),
    (
        "tidegate_server_draining",
        "Whether a server gets no new requests because it is about to go",
        |it| Some(it.draining.into()),
    ),
    ("tidegate_server_in_flight", "Requests at a server", |it| {
        Some(it.in_flight.into())
    }),
    (
        "tidegate_server_limit",
        "Most requests at a server at once at the moment; 0 means no limit",
        |it| Some(it.limit.into()),
    ),
    (
        "tidegate_server_maxconn",
        "Most requests at a server at once; 0 means no limit",
        |it| Some(it.maxconn.into()),
    ),
    (
        "tidegate_server_queue_length",
        "Requests waiting for one very server",
        |it| Some(it.queued.into()),
    ),
    (
        "tidegate_server_connections_idle",
        "Connections to a server that carry no request",
        |it| Some(it.connections.idle),
    ),
    (
        "tidegate_server_connections_open",
        "Connections to a server, idle ones included",
        |it| Some(it.connections.open),
    ),
];

const SERVER_COUNTERS: &[Metric] = &[
    (
        "tidegate_server_requests_total",
        "Requests that were given to a server, those sent again included",
        |it| Some(it.requests),
    ),
    (
        "tidegate_server_connections_opened_total",
        "Connections to a server that were opened",
        |it| Some(it.connections.opened),
    ),
    (
        "tidegate_server_connections_reused_total",
        "Times that an open connection to a server was taken for a further request",
        |it| Some(it.connections.reused),
    ),
    (
        "tidegate_server_connections_failed_total",
        "Connections to a server that could not be opened",
        |it| Some(it.connections.failed),
    ),
    (
        "tidegate_server_ejections_total",
        "Times that failed requests took a server out of its service",
        |it| it.ejections,
    ),
];

/// Everything that `live` says now. Whether servers are up is one of Traefik's
/// service metrics and shown only `with_services`.
pub(super) fn families(
    live: &dyn LiveState,
    with_services: bool,
) -> Result<Vec<MetricFamily>, Error> {
    let mut families = servers(&live.servers(), with_services)?;
    families.extend(services(&live.services())?);
    families.extend(certificates(&live.certificates())?);
    families.extend(providers(&live.providers())?);
    families.extend(resolvers(&live.resolvers())?);
    if let Some(sample) = live.mesh() {
        families.extend(mesh::families(&sample)?);
    }
    Ok(families)
}

/// How many lines the access log dropped.
pub(super) fn dropped_lines(dropped: &AtomicU64) -> Result<Vec<MetricFamily>, Error> {
    let counter = IntCounter::new(
        "tidegate_access_log_dropped_total",
        "Access log lines dropped because the writer was behind",
    )?;
    counter.inc_by(dropped.load(Ordering::Relaxed));
    Ok(counter.collect())
}

fn servers(samples: &[ServerSample], with_up: bool) -> Result<Vec<MetricFamily>, Error> {
    let mut families = Vec::new();
    for (name, help, read) in SERVER_GAUGES {
        if with_up || *name != SERVER_UP {
            let gauges = integers(name, help, &SERVER_LABELS)?;
            for (sample, value) in values(samples, *read) {
                let gauge = gauges.with_label_values(&[&*sample.service, &*sample.url]);
                gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
            }
            families.extend(gauges.collect());
        }
    }
    for (name, help, read) in SERVER_COUNTERS {
        let counters = counters(name, help, &SERVER_LABELS)?;
        for (sample, value) in values(samples, *read) {
            let counter = counters.with_label_values(&[&*sample.service, &*sample.url]);
            counter.inc_by(value);
        }
        families.extend(counters.collect());
    }
    Ok(families)
}

/// The servers that have a value, with it.
fn values(
    samples: &[ServerSample],
    read: fn(&ServerSample) -> Option<u64>,
) -> impl Iterator<Item = (&ServerSample, u64)> {
    samples
        .iter()
        .filter_map(move |sample| Some((sample, read(sample)?)))
}

fn services(samples: &[ServiceSample]) -> Result<Vec<MetricFamily>, Error> {
    let labels = ["service"];
    let queued = integers(
        "tidegate_service_queue_length",
        "Requests waiting at a service, for any of its servers or for a certain one",
        &labels,
    )?;
    let handed = counters(
        "tidegate_service_queue_handed_total",
        "Slots that were handed to a request that waited",
        &labels,
    )?;
    let withdrawn = counters(
        "tidegate_service_queue_withdrawn_total",
        "Requests that left the queue unserved: they waited too long, or the client went away",
        &labels,
    )?;
    for sample in samples {
        let labels = [&*sample.service];
        queued.with_label_values(&labels).set(sample.queued.into());
        handed.with_label_values(&labels).inc_by(sample.handed);
        withdrawn
            .with_label_values(&labels)
            .inc_by(sample.withdrawn);
    }
    Ok([queued.collect(), handed.collect(), withdrawn.collect()].concat())
}

fn certificates(samples: &[CertificateSample]) -> Result<Vec<MetricFamily>, Error> {
    let not_after = gauges(
        "traefik_tls_certs_not_after",
        "When a certificate ends, in Unix time",
        &["cn", "serial", "sans"],
    )?;
    for sample in samples {
        let labels = [&*sample.cn, &*sample.serial, &*sample.sans];
        let gauge = not_after.with_label_values(&labels);
        gauge.set(unix_seconds(sample.not_after));
    }
    Ok(not_after.collect())
}

fn providers(samples: &[ProviderSample]) -> Result<Vec<MetricFamily>, Error> {
    let labels = ["provider"];
    let success = gauges(
        "tidegate_provider_last_success_seconds",
        "When a provider was last read, in Unix time",
        &labels,
    )?;
    let stale = integers(
        "tidegate_provider_stale",
        "Whether a provider's source can't be reached and its last state is served",
        &labels,
    )?;
    let relayed = integers(
        "tidegate_provider_relayed",
        "Whether a provider's source is read by another proxy, and by which",
        &["provider", "member"],
    )?;
    for sample in samples {
        if let Some(member) = &sample.source {
            let labels = [&*sample.provider, &**member];
            relayed.with_label_values(&labels).set(1);
        }
        let labels = [&*sample.provider];
        if let Some(at) = sample.last_success {
            success.with_label_values(&labels).set(unix_seconds(at));
        }
        stale.with_label_values(&labels).set(sample.is_stale.into());
    }
    Ok([success.collect(), stale.collect(), relayed.collect()].concat())
}

fn resolvers(samples: &[ResolverSample]) -> Result<Vec<MetricFamily>, Error> {
    let labels = ["resolver"];
    let certificates = integers(
        "tidegate_acme_certificates",
        "Certificates of a resolver that can be served",
        &labels,
    )?;
    let wanted = integers(
        "tidegate_acme_certificates_wanted",
        "Certificates that routers want of a resolver, by how far they are",
        &["resolver", "status"],
    )?;
    let age = gauges(
        "tidegate_acme_store_age_seconds",
        "How long ago a resolver's store was last read",
        &labels,
    )?;
    let renewal = gauges(
        "tidegate_acme_next_renewal_seconds",
        "When the first of a resolver's certificates is to be renewed, in Unix time",
        &labels,
    )?;
    let orders = counters(
        "tidegate_acme_orders_total",
        "Certificates that this proxy ordered, by outcome",
        &["resolver", "result"],
    )?;
    for sample in samples {
        let labels = [&*sample.resolver];
        let held = i64::try_from(sample.certificates).unwrap_or(i64::MAX);
        certificates.with_label_values(&labels).set(held);
        if let Some(at) = sample.store_age {
            age.with_label_values(&labels).set(at.as_secs_f64());
        }
        if let Some(at) = sample.next_renewal {
            renewal.with_label_values(&labels).set(unix_seconds(at));
        }
        for (status, count) in &sample.wanted {
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            let labels = [&*sample.resolver, status];
            wanted.with_label_values(&labels).set(count);
        }
        for (result, count) in &sample.orders {
            let labels = [&*sample.resolver, result];
            orders.with_label_values(&labels).inc_by(*count);
        }
    }
    let gauges = [certificates.collect(), wanted.collect(), age.collect()];
    Ok([gauges.concat(), renewal.collect(), orders.collect()].concat())
}

pub(super) fn integers(name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, Error> {
    IntGaugeVec::new(Opts::new(name, help), labels)
}

pub(super) fn counters(name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, Error> {
    IntCounterVec::new(Opts::new(name, help), labels)
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec, Error> {
    GaugeVec::new(Opts::new(name, help), labels)
}
