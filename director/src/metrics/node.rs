//! Nodes: what checks say of them, and who names them.

use std::time::Instant;

use super::exposition::{Kind, Page};
use super::{age, label};
use crate::health::Health;
use crate::source::Roster;

pub(super) fn render(page: &mut Page, roster: &Roster, health: &Health) {
    let help = "Whether too few nodes seem to be up to believe it.";
    page.gauge("quorum_lost", help, u8::from(health.quorum_lost));
    let help = "What checks say of a node: 1 for the verdict that it has, 0 for the others.";
    let mut family = page.family("node_verdict", Kind::Gauge, help);
    for (address, node) in &health.nodes {
        let address = address.to_string();
        for verdict in label::VERDICTS {
            let labels = [
                ("node", address.as_str()),
                ("verdict", label::verdict(verdict)),
            ];
            family.sample(&labels, u8::from(node.verdict == verdict));
        }
    }
    let help = "What nodes are called; always 1.";
    let mut family = page.family("node_info", Kind::Gauge, help);
    for (address, node) in &roster.nodes {
        let name = node.name().unwrap_or_default();
        family.sample(&[("node", &address.to_string()), ("name", name)], 1);
    }
    render_layers(page, health);
}

/// A way of asking about which nothing is known yet has no sample.
fn render_layers(page: &mut Page, health: &Health) {
    let nodes = health.nodes.iter();
    let layers = nodes.flat_map(|(address, node)| {
        let address = address.to_string();
        node.layers.iter().map(move |(layer, it)| {
            let (layer, vip) = label::layer(*layer);
            let vip = vip.map(|vip| vip.to_string()).unwrap_or_default();
            (address.clone(), layer, vip, it)
        })
    });
    let layers: Vec<_> = layers.collect();
    let help =
        "Whether a node answers at its own address (plain), and at the virtual one (through).";
    let mut family = page.family("node_layer_up", Kind::Gauge, help);
    for (node, layer, vip, it) in &layers {
        if let Some(is_up) = it.is_up {
            let labels = [("node", node.as_str()), ("layer", layer), ("vip", vip)];
            family.sample(&labels, u8::from(is_up));
        }
    }
    let help = "How long the last answer took.";
    let mut family = page.family("node_check_seconds", Kind::Gauge, help);
    for (node, layer, vip, it) in &layers {
        if let Some(took) = it.took {
            let labels = [("node", node.as_str()), ("layer", layer), ("vip", vip)];
            family.sample(&labels, took.as_secs_f64());
        }
    }
}

/// A source that has not answered yet has no age.
pub(super) fn render_sources(page: &mut Page, roster: &Roster, now: Instant) {
    let help = "How long ago a source of nodes had a whole answer.";
    let mut family = page.family("discovery_stale_seconds", Kind::Gauge, help);
    for (origin, source) in &roster.sources {
        if let Some(answered) = source.answered {
            let labels = [("source", label::origin(*origin))];
            family.sample(&labels, age(now, answered));
        }
    }
    let help = "Whether a source of nodes has no answer now.";
    let mut family = page.family("discovery_failing", Kind::Gauge, help);
    for (origin, source) in &roster.sources {
        let labels = [("source", label::origin(*origin))];
        family.sample(&labels, u8::from(source.error.is_some()));
    }
    let help = "How many nodes a source names.";
    let mut family = page.family("discovery_nodes", Kind::Gauge, help);
    for origin in roster.sources.keys() {
        let nodes = roster.nodes.values();
        let named = nodes.filter(|node| node.sightings.contains_key(origin));
        family.sample(&[("source", label::origin(*origin))], named.count());
    }
}
