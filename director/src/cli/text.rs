//! Answers in words, for people: compact tables, no colours.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::api::types::{Control, Event, Events, Node, Plan, Receiver, Router, Source, Status};

/// A text without control characters: others may have written it.
pub(super) fn clean(text: &str) -> String {
    let keep = |it: char| if it.is_control() { '?' } else { it };
    text.chars().map(keep).collect()
}

/// The whole picture.
pub(super) fn status(status: &Status) -> String {
    let mut text = String::new();
    let dry = if status.dry_run { ", dry run" } else { "" };
    // Writing to a string can't fail, here and below.
    let _ = writeln!(
        text,
        "tidegate-director {} ({}){dry}, up {}",
        clean(&status.version),
        list(&status.roles, " and "),
        span(status.uptime),
    );
    let vips = list(&status.vips, ", ");
    let ports = list(&status.ports, ", ");
    let _ = writeln!(text, "virtual addresses {vips}; ports {ports}");
    if status.roles.iter().any(|role| role == "director") {
        let _ = writeln!(text, "table: {}", control(&status.control));
    }
    // Nothing is received in a dry run.
    if let Some(it) = status.receiver.as_ref().filter(|_| !status.dry_run) {
        let _ = writeln!(text, "receiver: {}", receiver(it));
    }
    routers(&mut text, &status.vrrp);
    nodes(&mut text, &status.nodes);
    sources(&mut text, &status.sources);
    text.push('\n');
    if status.trouble.is_empty() {
        text.push_str("no trouble\n");
    }
    for trouble in &status.trouble {
        let _ = writeln!(text, "trouble: {}", clean(trouble));
    }
    text
}

/// What remains to be done.
pub(super) fn plan(plan: &Plan) -> String {
    let mut text = String::new();
    for change in &plan.changes {
        let _ = writeln!(text, "{}", clean(&change.words));
    }
    if plan.changes.is_empty() {
        text.push_str("the kernel holds what is desired\n");
    }
    if let Some(trouble) = &plan.trouble {
        let _ = writeln!(text, "trouble: {}", clean(trouble));
    }
    text
}

/// A list of decisions.
pub(super) fn events(events: &Events) -> String {
    events.events.iter().map(event).collect()
}

/// One decision.
pub(super) fn event(event: &Event) -> String {
    let Event {
        number,
        at,
        part,
        subject,
        decision,
        cause,
    } = event;
    let line = format!("{at} {number} {part} {subject}: {decision} ({cause})");
    format!("{}\n", clean(&line))
}

fn control(control: &Control) -> String {
    let does = if control.serving {
        "serving"
    } else {
        "standing by"
    };
    let mut text = format!(
        "{does}, {} of {} virtual servers in the kernel",
        control.actual, control.desired
    );
    match (control.pending, control.settled) {
        (0, Some(age)) => _ = write!(text, ", as desired {} ago", span(age)),
        (0, None) => text.push_str(", not yet compared"),
        (1, _) => text.push_str(", 1 change pending"),
        (pending, _) => _ = write!(text, ", {pending} changes pending"),
    }
    if control.repairs > 0 {
        let _ = write!(text, ", {} repairs", control.repairs);
    }
    for sync in &control.sync {
        let (role, interface) = (clean(&sync.role), clean(&sync.interface));
        let _ = write!(text, ", sync {role} on {interface}");
    }
    text
}

fn receiver(receiver: &Receiver) -> String {
    let shown = |addresses: &[std::net::IpAddr]| {
        let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        list(&addresses, ", ")
    };
    let mut text = match receiver.in_place.as_slice() {
        [] => "nothing in place".to_owned(),
        held => format!("{} on {}", shown(held), clean(&receiver.device)),
    };
    if !receiver.missing.is_empty() {
        let _ = write!(text, ", missing {}", shown(&receiver.missing));
    }
    match &receiver.hushed_by {
        Some(by) => _ = write!(text, ", hushed by {}", clean(by)),
        None => text.push_str(", not hushed"),
    }
    if let Some(age) = receiver.repaired {
        let (repairs, age) = (receiver.repairs, span(age));
        let _ = write!(text, ", {repairs} repairs, the last {age} ago");
    }
    text
}

fn routers(text: &mut String, routers: &[Router]) {
    let head = [
        "VRID",
        "ADDRESSES",
        "INTERFACE",
        "STATE",
        "PRIORITY",
        "SINCE",
        "MASTER",
        "WHY",
    ];
    let rows = routers.iter().map(|it| {
        let addresses: Vec<_> = it.addresses.iter().map(ToString::to_string).collect();
        let master = it.master.as_ref();
        let master = master.map(|peer| format!("{} ({})", peer.address, peer.priority));
        [
            it.vrid.to_string(),
            list(&addresses, ", "),
            clean(&it.interface),
            clean(&it.state),
            it.priority.to_string(),
            span(it.since),
            or_dash(master),
            clean(it.cause.as_deref().unwrap_or_default()),
        ]
    });
    table(text, head, rows.collect());
}

fn nodes(text: &mut String, nodes: &[Node]) {
    let head = [
        "NODE", "NAME", "VERDICT", "SINCE", "WEIGHT", "ACTIVE", "NAMED BY", "WHY",
    ];
    let rows = nodes.iter().map(|node| {
        let active: Vec<_> = node.servers.iter().filter_map(|it| it.active).collect();
        let sum = active.iter().map(|it| u64::from(*it)).sum::<u64>();
        let active = (!active.is_empty()).then(|| sum.to_string());
        [
            node.address.to_string(),
            or_dash(node.name.as_deref().map(clean)),
            verdict(node),
            or_dash(node.health.since.map(span)),
            or_dash(weights(node)),
            or_dash(active),
            or_dash(sightings(node)),
            why(node),
        ]
    });
    table(text, head, rows.collect());
}

fn verdict(node: &Node) -> String {
    let mut text = clean(&node.health.verdict);
    if node.drained {
        text.push_str(", drained");
    } else if node.stance != "ready" {
        let _ = write!(text, ", {}", clean(&node.stance));
    }
    if let Some(rest) = node.health.held_for {
        let _ = write!(text, ", held {}", span(rest));
    }
    text
}

/// Why it stands where it stands, and what its checks say, unless that is the same.
fn why(node: &Node) -> String {
    let reason = node.health.reason.as_str();
    let standing = node.standing.as_ref().map_or("", |it| it.why.as_str());
    match (standing, reason) {
        ("", only) | (only, "") => clean(only),
        (standing, reason) if standing.contains(reason) => clean(standing),
        (standing, reason) => clean(&format!("{standing}; {reason}")),
    }
}

/// The weights that the node has behind its virtual servers, each once; with
/// what it should be where that is something else.
fn weights(node: &Node) -> Option<String> {
    let shown = |weight: Option<u32>| or_dash(weight.map(|it| it.to_string()));
    let weights: BTreeSet<_> = node
        .servers
        .iter()
        .map(|place| match (place.actual_weight, place.desired_weight) {
            (actual, desired) if actual == desired => shown(actual),
            (actual, desired) => format!("{} -> {}", shown(actual), shown(desired)),
        })
        .collect();
    let weights: Vec<_> = weights.into_iter().collect();
    (!weights.is_empty()).then(|| weights.join(", "))
}

fn sightings(node: &Node) -> Option<String> {
    let sightings = node.sightings.iter();
    let named = sightings.map(|it| match it.source.as_str() {
        "static" => "static".to_owned(),
        source => format!("{} {} ago", clean(source), span(it.age)),
    });
    let named: Vec<_> = named.collect();
    (!named.is_empty()).then(|| named.join(", "))
}

fn sources(text: &mut String, sources: &[Source]) {
    let head = ["SOURCE", "NODES", "ANSWERED", "WHY NOT"];
    let rows = sources.iter().map(|it| {
        [
            clean(&it.source),
            it.nodes.to_string(),
            or_dash(it.age.map(|age| format!("{} ago", span(age)))),
            clean(it.error.as_deref().unwrap_or_default()),
        ]
    });
    table(text, head, rows.collect());
}

fn list(words: &[String], between: &str) -> String {
    or_dash((!words.is_empty()).then(|| clean(&words.join(between))))
}

fn or_dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

/// A time in seconds, as coarse as it is long.
pub(super) fn span(seconds: f64) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast from floating point saturates"
    )]
    let whole = seconds as u64;
    match whole {
        0..10 => format!("{:.1} s", seconds.max(0.0)),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{} min", whole / 60),
        3600..86_400 => format!("{} h {} min", whole / 3600, whole / 60 % 60),
        _ => format!("{} d {} h", whole / 86_400, whole / 3600 % 24),
    }
}

/// A table with its head, after an empty line; nothing without rows.
fn table<const N: usize>(text: &mut String, head: [&str; N], rows: Vec<[String; N]>) {
    if rows.is_empty() {
        return;
    }
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(rows);
    let mut widths = [0; N];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = cell.chars().count().max(*width);
        }
    }
    text.push('\n');
    for line in &lines {
        let mut row = String::new();
        for (cell, width) in line.iter().zip(widths) {
            let _ = write!(row, "{cell:width$}  ");
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
}
