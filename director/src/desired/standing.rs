//! Where each node stands: its weight in the table, or out of it, and why.
//!
//! Caution is in one direction: it takes evidence to take a node out, and where
//! all evidence says that nothing is left, it is not believed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::{Inputs, is_complete, is_on_vip};
use crate::config::Settings;
use crate::health::Verdict;
use crate::model::Table;
use crate::source::{Node, Origin, Stance};
use crate::view::Standing;

/// What a source calls a full share.
const FULL_SHARE: u64 = 100;

/// How long the connections of a node that was drained and then forgotten by
/// all sources are let run. The kernel does not see how they end at the node.
const LINGER: Duration = Duration::from_secs(60);

type Standings = BTreeMap<IpAddr, Standing>;

/// The nodes of a table that another director left, by their largest weight.
pub(super) fn adopted(settings: &Settings, table: &Table) -> Standings {
    let servers = table.iter().filter(|(it, _)| is_on_vip(settings, it));
    let reals = servers.flat_map(|(_, server)| &server.real_servers);
    let mut standings = Standings::new();
    for (address, real) in reals {
        let why = "the kernel held it when the director started";
        let found = standing(Some(real.weight), why);
        let held = standings.entry(address.ip()).or_insert(found);
        held.weight = held.weight.max(Some(real.weight));
    }
    standings
}

fn standing(weight: Option<u32>, why: impl Into<String>) -> Standing {
    Standing {
        weight,
        why: why.into(),
        left: None,
    }
}

/// Where each node stands, and the alarm if not all evidence was believed.
pub(super) fn judge(inputs: &Inputs<'_>, last: &Standings) -> (Standings, Option<String>) {
    let nodes = inputs.roster.nodes.iter();
    let mut standings: Standings = nodes
        .map(|(address, node)| (*address, judge_node(inputs, *address, node, last)))
        .collect();
    for (address, before) in last {
        if !standings.contains_key(address)
            && let Some(kept) = judge_forgotten(inputs, *address, before)
        {
            standings.insert(*address, kept);
        }
    }
    let alarm = doubt(inputs, last, &mut standings);
    (standings, alarm)
}

fn judge_node(inputs: &Inputs<'_>, address: IpAddr, node: &Node, last: &Standings) -> Standing {
    let vips = &inputs.settings.vips;
    if vips.iter().any(|vip| vip.address == address) {
        return standing(None, "it is a virtual address, not a node's own");
    }
    let (verdict, reason) = verdict(inputs, address);
    if verdict == Verdict::Dead {
        return standing(None, reason);
    }
    let before = last.get(&address).and_then(|it| it.weight);
    if verdict == Verdict::Unknown && before.is_none() {
        return standing(None, "not checked yet");
    }
    if inputs.drained.contains(&address) {
        return standing(Some(0), "drained by the operator");
    }
    if let Some(origin) = drained_by(node) {
        return standing(Some(0), format!("{} drains it", said_by(origin)));
    }
    match verdict {
        Verdict::Up => standing(Some(share(inputs.settings, node)), reason),
        Verdict::Unknown => standing(before, "not checked yet: as it was"),
        Verdict::Impaired | Verdict::Dead => standing(Some(0), reason),
    }
}

/// What the checks say; without checks every node is good.
fn verdict(inputs: &Inputs<'_>, address: IpAddr) -> (Verdict, String) {
    if inputs.settings.check.kind.is_none() {
        return (Verdict::Up, "nodes are not checked".to_owned());
    }
    let Some(health) = inputs.health.nodes.get(&address) else {
        return (Verdict::Unknown, String::new());
    };
    let reason = match (health.reason.as_str(), health.verdict) {
        ("", Verdict::Up) => "its checks succeed",
        ("", _) => "its checks fail",
        (reason, _) => reason,
    };
    (health.verdict, reason.to_owned())
}

/// The source that wants no new connections for it, if there is one.
fn drained_by(node: &Node) -> Option<Origin> {
    let mut sightings = node.sightings.iter();
    let found = sightings.find(|(_, it)| it.stance == Stance::Draining);
    found.map(|(origin, _)| *origin)
}

fn said_by(origin: Origin) -> &'static str {
    match origin {
        Origin::Static => "the list",
        Origin::Dns => "DNS",
        Origin::Swarm => "the Swarm",
        Origin::Heartbeat => "the node itself",
    }
}

/// The configured weight, scaled by the node's own: 100 is a full share. A node
/// that is up has some. With a weight of 1 all are equal: schedulers that hash
/// move clients with every change.
fn share(settings: &Settings, node: &Node) -> u32 {
    let full = u64::from(settings.weight);
    let Some(own) = node.weight().filter(|_| full > 1) else {
        return settings.weight;
    };
    let largest = u64::from(i32::MAX.unsigned_abs());
    let scaled = full.saturating_mul(u64::from(own)) / FULL_SHARE;
    u32::try_from(scaled.clamp(1, largest)).unwrap_or(settings.weight)
}

/// A node that no source names any more: out, unless the sources are not to be
/// believed, or it was drained and still has connections.
fn judge_forgotten(inputs: &Inputs<'_>, address: IpAddr, before: &Standing) -> Option<Standing> {
    before.weight?;
    let roster = inputs.roster;
    let keep = |weight, why: &str| Some(standing(weight, why));
    let drained = inputs.drained.contains(&address).then_some(0);
    if !is_complete(roster) {
        let weight = drained.or(before.weight);
        return keep(weight, "not every source has answered yet: as it was");
    }
    let is_failing = roster.sources.values().any(|it| it.error.is_some());
    if roster.nodes.is_empty() && is_failing {
        let weight = drained.or(before.weight);
        return keep(weight, "a source fails and names no node at all: as it was");
    }
    let (verdict, _) = verdict(inputs, address);
    let left = before.left.unwrap_or(inputs.now);
    let is_ending = before.weight == Some(0) && inputs.busy.contains(&address);
    let has_time = inputs.now.saturating_duration_since(left) < LINGER;
    if is_ending && has_time && verdict != Verdict::Dead {
        let why = "no source names it any more; its last connections are let run";
        return Some(Standing {
            left: Some(left),
            ..standing(Some(0), why)
        });
    }
    None
}

/// When checks leave nobody for new connections, it is more likely that this
/// machine is cut off: those that took connections until now go on.
fn doubt(inputs: &Inputs<'_>, last: &Standings, standings: &mut Standings) -> Option<String> {
    let quorum = inputs.health.quorum_lost.then(|| {
        "too few nodes look well: the checks are not believed, the last set stays".to_owned()
    });
    if standings.values().any(|it| it.weight > Some(0)) {
        return quorum;
    }
    let mut kept = 0_u32;
    for (address, standing) in standings.iter_mut() {
        let before = last.get(address).and_then(|it| it.weight);
        let is_condemned = inputs.roster.nodes.get(address).is_some_and(|node| {
            let is_drained = inputs.drained.contains(address) || drained_by(node).is_some();
            let (verdict, _) = verdict(inputs, *address);
            !is_drained && matches!(verdict, Verdict::Dead | Verdict::Impaired)
        });
        if is_condemned && before > Some(0) {
            standing.weight = before;
            standing.why = format!(
                "all nodes look bad, so it is kept ({})",
                cause(inputs, *address)
            );
            kept += 1;
        }
    }
    let doubted = || "all nodes look bad, which is likely this machine's fault: the last set stays";
    if kept > 0 {
        Some(doubted().to_owned())
    } else {
        quorum
    }
}

fn cause(inputs: &Inputs<'_>, address: IpAddr) -> String {
    verdict(inputs, address).1
}
