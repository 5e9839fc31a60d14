//! Gauges that are read when metrics are scraped.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{Error, GaugeVec, IntCounter, IntGaugeVec, Opts};

use super::sample::{CertificateSample, LiveState, ProviderSample, ServerSample, ServiceSample};
use super::unix_seconds;

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
    let labels = ["service", "url"];
    let up = integers(
        "traefik_service_server_up",
        "Whether a server is up",
        &labels,
    )?;
    let in_flight = integers("tidegate_server_in_flight", "Requests at a server", &labels)?;
    let maxconn = integers(
        "tidegate_server_maxconn",
        "Most requests at a server at once; 0 means no limit",
        &labels,
    )?;
    let queued = integers(
        "tidegate_server_queue_length",
        "Requests waiting for one very server",
        &labels,
    )?;
    for sample in samples {
        let labels = [&*sample.service, &*sample.url];
        let set = |gauges: &IntGaugeVec, value: u32| {
            gauges.with_label_values(&labels).set(value.into());
        };
        set(&up, sample.up.into());
        set(&in_flight, sample.in_flight);
        set(&maxconn, sample.maxconn);
        set(&queued, sample.queued);
    }
    let up = if with_up { up.collect() } else { Vec::new() };
    Ok([up, in_flight.collect(), maxconn.collect(), queued.collect()].concat())
}

fn services(samples: &[ServiceSample]) -> Result<Vec<MetricFamily>, Error> {
    let queued = integers(
        "tidegate_service_queue_length",
        "Requests waiting for any server of a service",
        &["service"],
    )?;
    for sample in samples {
        let gauge = queued.with_label_values(&[&*sample.service]);
        gauge.set(sample.queued.into());
    }
    Ok(queued.collect())
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
    for sample in samples {
        let labels = [&*sample.provider];
        if let Some(at) = sample.last_success {
            success.with_label_values(&labels).set(unix_seconds(at));
        }
        stale.with_label_values(&labels).set(sample.is_stale.into());
    }
    Ok([success.collect(), stale.collect()].concat())
}

fn integers(name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, Error> {
    IntGaugeVec::new(Opts::new(name, help), labels)
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec, Error> {
    GaugeVec::new(Opts::new(name, help), labels)
}
