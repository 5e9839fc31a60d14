//! Virtual routers.

use super::exposition::{Kind, Page};
use super::label;
use crate::view::{RouterState, VrrpState};

/// A metric of a virtual router: its name, kind, meaning, and how to read it.
type Metric = (&'static str, Kind, &'static str, fn(&RouterState) -> u64);

const METRICS: [Metric; 6] = [
    (
        "vrrp_priority",
        Kind::Gauge,
        "The priority that is advertised.",
        |it| u64::from(it.priority),
    ),
    (
        "vrrp_holding",
        Kind::Gauge,
        "Whether all addresses are on the interface.",
        |it| u64::from(it.is_holding),
    ),
    (
        "vrrp_transitions_total",
        Kind::Counter,
        "Changes of state.",
        |it| it.transitions,
    ),
    (
        "vrrp_announcements_total",
        Kind::Counter,
        "Gratuitous ARP and neighbour advertisements sent.",
        |it| it.announcements,
    ),
    (
        "vrrp_sent_total",
        Kind::Counter,
        "Advertisements sent.",
        |it| it.sent,
    ),
    (
        "vrrp_received_total",
        Kind::Counter,
        "Advertisements received and believed.",
        |it| it.received,
    ),
];

pub(super) fn render(page: &mut Page, vrrp: &VrrpState) {
    let routers = vrrp.routers.iter();
    let routers: Vec<_> = routers
        .map(|it| (it.vrid.to_string(), family(it), it))
        .collect();
    let help = "The state of a virtual router: 1 for the one it is in, 0 for the others.";
    let mut lines = page.family("vrrp_state", Kind::Gauge, help);
    for (vrid, family, router) in &routers {
        for state in label::STATES {
            let name = label::state(state);
            let labels = [("vrid", vrid.as_str()), ("family", family), ("state", name)];
            lines.sample(&labels, u8::from(router.state == state));
        }
    }
    for (name, kind, help, read) in METRICS {
        let mut lines = page.family(name, kind, help);
        for (vrid, family, router) in &routers {
            lines.sample(&[("vrid", vrid), ("family", family)], read(router));
        }
    }
    let help = "How long the last takeover took, from the decision to the announcement.";
    let mut lines = page.family("vrrp_takeover_seconds", Kind::Gauge, help);
    for (vrid, family, router) in &routers {
        if let Some(took) = router.takeover {
            lines.sample(&[("vrid", vrid), ("family", family)], took.as_secs_f64());
        }
    }
    let help = "Messages thrown away, by reason.";
    let mut lines = page.family("vrrp_discarded_total", Kind::Counter, help);
    for (vrid, family, router) in &routers {
        for (reason, count) in &router.discarded {
            let labels = [
                ("vrid", vrid.as_str()),
                ("family", family),
                ("reason", reason),
            ];
            lines.sample(&labels, count);
        }
    }
}

fn family(router: &RouterState) -> &'static str {
    match router.addresses.first() {
        Some(address) if address.is_ipv6() => "ipv6",
        _ => "ipv4",
    }
}
