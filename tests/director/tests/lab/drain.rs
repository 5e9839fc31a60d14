//! Taking a receiver out under load, also of clients that use their ports again.

use std::time::{Duration, Instant};

use director_lab::{Attempt, Figures, Flows, Lab, Load, Probe, RECEIVERS, VIP, within};

use crate::{LONG, millis, pass, secs};

/// Flows that live through it.
pub(crate) const FLOWS: usize = 60;

/// Each port comes again after 1.2 s: an attempt that nobody answers is given up
/// after a second, and only then can its port be bound again.
const PORTS: Load = Load::Reused {
    first: 20_000,
    count: 60,
};

/// What draining did.
pub(crate) struct Drained {
    /// Requests that failed.
    pub(crate) failed: usize,
    /// Until the last connection was begun that the drained node answered.
    pub(crate) last: Duration,
    /// Flows that went on, of 60.
    pub(crate) alive: usize,
}

/// The first receiver gets no new connections any more, by what is called.
pub(crate) fn drain(
    lab: &Lab,
    tell: impl Fn() -> anyhow::Result<()>,
    figures: &Figures,
) -> Drained {
    let flows = Flows::start(&lab.client, VIP, FLOWS).unwrap();
    let fresh = Probe::start(&lab.client, VIP);
    let reused = Probe::with(&lab.client, VIP, Probe::PACE, PORTS);
    pass(millis(4000));
    let told = Instant::now();
    tell().unwrap();
    pass(millis(6000));
    let mut attempts = fresh.stop().unwrap();
    attempts.extend(reused.stop().unwrap());
    let here = attempts.iter().filter(|it| it.receiver() == Some("r1"));
    let last = here.map(|it| it.at.saturating_duration_since(told)).max();
    let drained = Drained {
        failed: failed(&attempts, None),
        last: last.unwrap_or_default(),
        alive: flows.survivors(Instant::now(), LONG),
    };
    let of = attempts.len();
    figures.add(
        "drain: failed requests",
        format!("{} of {of}", drained.failed),
    );
    figures.add("drain: last new connection to the node", secs(drained.last));
    figures.add(
        "drain: flows that go on",
        format!("{} of {FLOWS}", drained.alive),
    );
    drained
}

/// The first receiver dies while ports are used again; requests that fail
/// although it is out of the table.
pub(crate) fn dies(lab: &Lab, figures: &Figures) -> usize {
    let reused = Probe::with(&lab.client, VIP, Probe::PACE, PORTS);
    pass(millis(4000));
    lab.cut(&lab.receivers[0]).unwrap();
    let is_out = || (!lab.used(0).contains(&RECEIVERS[0])).then_some(());
    within(LONG, "the node out", is_out).unwrap();
    let out = Instant::now();
    pass(millis(4000));
    let attempts = reused.stop().unwrap();
    let after = attempts.iter().filter(|it| it.at > out).count();
    let failed = failed(&attempts, Some(out));
    figures.add(
        "node dead, ports reused: failed once it is out",
        format!("{failed} of {after}"),
    );
    let bad = attempts.iter().find(|it| it.at > out && !it.is_good());
    if let Some(bad) = bad {
        figures.add("node dead, ports reused: the first", format!("{bad:?}"));
    }
    failed
}

fn failed(attempts: &[Attempt], since: Option<Instant>) -> usize {
    let counts = |it: &&Attempt| !it.is_good() && since.is_none_or(|since| it.at > since);
    attempts.iter().filter(counts).count()
}
