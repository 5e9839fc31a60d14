//! What the mesh of a cluster shows when metrics are scraped.

use prometheus::core::Collector as _;
use prometheus::proto::MetricFamily;
use prometheus::{Error, IntCounter, IntGauge};

use super::live::{counters, integers};
use super::sample::MeshSample;

/// Name, help, and where the value is from.
type Metric = (&'static str, &'static str, fn(&MeshSample) -> u64);

const GAUGES: &[Metric] = &[
    (
        "tidegate_mesh_connected",
        "Members of the cluster that are connected with this one",
        |it| it.connected,
    ),
    (
        "tidegate_mesh_known_facts",
        "How much of what members say is known",
        |it| it.facts as u64,
    ),
    (
        "tidegate_mesh_known_bytes",
        "The bytes of what members say",
        |it| it.bytes as u64,
    ),
];

const COUNTERS: &[Metric] = &[
    (
        "tidegate_mesh_connections_total",
        "Connections with members that came about",
        |it| it.connections,
    ),
    (
        "tidegate_mesh_connections_lost_total",
        "Connections with members that were too slow or silent",
        |it| it.lost,
    ),
    (
        "tidegate_mesh_received_bytes_total",
        "Bytes that members sent",
        |it| it.received_bytes,
    ),
    (
        "tidegate_mesh_sent_bytes_total",
        "Bytes that were sent to members",
        |it| it.sent_bytes,
    ),
    (
        "tidegate_mesh_questions_total",
        "Questions of members",
        |it| it.questions,
    ),
    (
        "tidegate_mesh_questions_refused_total",
        "Questions of members that were not answered, for there were too many at once",
        |it| it.questions_refused,
    ),
    (
        "tidegate_mesh_state_failed_total",
        "Times that the state file could not be written",
        |it| it.state_failed,
    ),
];

/// Everything about the mesh.
pub(super) fn families(sample: &MeshSample) -> Result<Vec<MetricFamily>, Error> {
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
    let up = integers(
        "tidegate_mesh_member_up",
        "Whether another member of the cluster can be reached",
        &["member"],
    )?;
    for (member, is_live) in &sample.members {
        up.with_label_values(&[&**member]).set((*is_live).into());
    }
    families.extend(up.collect());
    families.extend(by(
        ("tidegate_mesh_refused_total", "reason"),
        "Connections to the mesh that were refused",
        &sample.refused,
    )?);
    families.extend(by(
        ("tidegate_mesh_facts_total", "result"),
        "Facts that members told, by what became of them",
        &sample.heard,
    )?);
    Ok(families)
}

/// A counter with one label.
fn by(
    (name, label): (&str, &str),
    help: &str,
    counts: &[(&'static str, u64)],
) -> Result<Vec<MetricFamily>, Error> {
    let all = counters(name, help, &[label])?;
    for (value, count) in counts {
        all.with_label_values(&[*value]).inc_by(*count);
    }
    Ok(all.collect())
}
