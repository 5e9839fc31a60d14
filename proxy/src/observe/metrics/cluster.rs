//! What a proxy has to do with the others of its cluster, read when metrics are scraped.

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{Error, Gauge, IntCounter, IntCounterVec, IntGauge, Opts};

use super::sample::{ClusterSample, TicketKeySample};
use super::unix_seconds;

/// Name, help, and where the value is from.
type Metric = (&'static str, &'static str, fn(&ClusterSample) -> u64);

const GAUGES: &[Metric] = &[
    (
        "tidegate_cluster_members",
        "Other members of the cluster that were heard of and have not left",
        |it| it.members as u64,
    ),
    (
        "tidegate_cluster_members_live",
        "Other members of the cluster that can be reached, be it through others",
        |it| it.live as u64,
    ),
    (
        "tidegate_cluster_members_connected",
        "Other members of the cluster that are connected with this one",
        |it| it.connected,
    ),
    (
        "tidegate_cluster_facts",
        "What members said and is kept here",
        |it| it.facts as u64,
    ),
    (
        "tidegate_cluster_facts_bytes",
        "Bytes of what members said and is kept here",
        |it| it.fact_bytes as u64,
    ),
];

const COUNTERS: &[Metric] = &[
    (
        "tidegate_cluster_dials_refused_total",
        "Connections to peers that these ended before both had said who they are",
        |it| it.dials_refused,
    ),
    (
        "tidegate_cluster_connections_total",
        "Connections with members that came about",
        |it| it.links,
    ),
    (
        "tidegate_cluster_connections_lost_total",
        "Connections that ended because the other member was silent or too slow",
        |it| it.links_lost,
    ),
    (
        "tidegate_cluster_received_bytes_total",
        "Bytes that were received of other members",
        |it| it.received_bytes,
    ),
    (
        "tidegate_cluster_sent_bytes_total",
        "Bytes that were sent to other members",
        |it| it.sent_bytes,
    ),
    (
        "tidegate_cluster_state_errors_total",
        "Times that the state file could not be written",
        |it| it.state_failed,
    ),
];

/// Everything about a cluster.
pub(super) fn families(sample: &ClusterSample) -> Result<Vec<MetricFamily>, Error> {
    let mut families = Vec::new();
    for (name, help, read) in GAUGES {
        let gauge = IntGauge::new(*name, *help)?;
        gauge.set(i64::try_from(read(sample)).unwrap_or(i64::MAX));
        families.extend(gauge.collect());
    }
    for (name, help, read) in COUNTERS {
        let counter = IntCounter::new(*name, *help)?;
        counter.inc_by(read(sample));
        families.extend(counter.collect());
    }
    families.extend(by(
        "tidegate_cluster_refused_total",
        "Connections that were not taken",
        "reason",
        &sample.refused,
    )?);
    families.extend(by(
        "tidegate_cluster_facts_received_total",
        "What other members said, by what became of it",
        "result",
        &sample.received,
    )?);
    families.extend(by(
        "tidegate_cluster_questions_total",
        "Questions of other members, by what became of them",
        "result",
        &sample.questions,
    )?);
    if let Some(at) = sample.state_written {
        let written = Gauge::new(
            "tidegate_cluster_state_written_seconds",
            "When the state file was last written, in Unix time",
        )?;
        written.set(unix_seconds(at));
        families.extend(written.collect());
    }
    Ok(families)
}

/// The keys of session tickets, with a cluster and without.
pub(super) fn ticket_keys(sample: TicketKeySample) -> Result<Vec<MetricFamily>, Error> {
    let keys = IntGauge::new(
        "tidegate_tls_ticket_keys",
        "Keys that session tickets are opened with",
    )?;
    keys.set(i64::try_from(sample.keys).unwrap_or(i64::MAX));
    let mut families = keys.collect();
    if let Some((count, age)) = sample.sealing {
        let generation = IntGauge::new(
            "tidegate_tls_ticket_key_generation",
            "Which key session tickets are sealed with, counted since the cluster's first",
        )?;
        generation.set(i64::try_from(count).unwrap_or(i64::MAX));
        families.extend(generation.collect());
        let made = Gauge::new(
            "tidegate_tls_ticket_key_age_seconds",
            "How long ago the key was made that session tickets are sealed with",
        )?;
        made.set(age.as_secs_f64());
        families.extend(made.collect());
    }
    Ok(families)
}

/// A counter for each of `counts`.
fn by(
    name: &str,
    help: &str,
    label: &str,
    counts: &[(&'static str, u64)],
) -> Result<Vec<MetricFamily>, Error> {
    let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
    for (value, count) in counts {
        counters.with_label_values(&[value]).inc_by(*count);
    }
    Ok(counters.collect())
}
