//! The values of labels that stand for states, and what they are called in the
//! API's answers.

use std::net::IpAddr;

use crate::health::{Layer, Verdict};
use crate::source::Origin;
use crate::vrrp::State;

/// All verdicts.
pub(super) const VERDICTS: [Verdict; 4] = [
    Verdict::Up,
    Verdict::Unknown,
    Verdict::Impaired,
    Verdict::Dead,
];

/// All states of a virtual router.
pub(super) const STATES: [State; 4] = [
    State::Initialize,
    State::Backup,
    State::Master,
    State::Leaving,
];

/// A verdict.
pub(crate) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Up => "up",
        Verdict::Unknown => "unknown",
        Verdict::Impaired => "impaired",
        Verdict::Dead => "dead",
    }
}

/// A way of asking, and the virtual address it asks at.
pub(crate) fn layer(layer: Layer) -> (&'static str, Option<IpAddr>) {
    match layer {
        Layer::Plain => ("plain", None),
        Layer::Through(vip) => ("through", Some(vip)),
    }
}

/// A source of nodes.
pub(crate) fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Static => "static",
        Origin::Dns => "dns",
        Origin::Swarm => "swarm",
        Origin::Heartbeat => "heartbeat",
    }
}

/// A state of a virtual router.
pub(crate) fn state(state: State) -> &'static str {
    match state {
        State::Initialize => "initialize",
        State::Backup => "backup",
        State::Master => "master",
        State::Leaving => "leaving",
    }
}
