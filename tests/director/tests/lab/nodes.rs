//! Receivers that go and come.

use std::time::{Duration, Instant};

use director_lab::{Figures, Lab, Probe, RECEIVERS, VIP, within};

use crate::{LONG, millis, pass, secs};

/// What losing and getting back a receiver took.
pub(crate) struct Loss {
    /// Until it was out of the table.
    pub(crate) out: Duration,
    /// Until the last connection was begun that failed.
    pub(crate) failing: Duration,
    /// From its return until it was in the table.
    pub(crate) back: Duration,
    /// From its return until it answered a client.
    pub(crate) used: Duration,
}

/// The first receiver loses its power, and gets it back five seconds later.
pub(crate) fn power_off(lab: &Lab, figures: &Figures) -> Loss {
    let probe = Probe::start(&lab.client, VIP);
    pass(millis(2000));
    let off = Instant::now();
    lab.cut(&lab.receivers[0]).unwrap();
    let is_used = || lab.used(0).contains(&RECEIVERS[0]);
    let (_, out) = within(LONG, "the node out", || (!is_used()).then_some(())).unwrap();
    pass(millis(5000));
    let on = Instant::now();
    lab.heal(&lab.receivers[0]).unwrap();
    let (_, back) = within(LONG, "the node back", || is_used().then_some(())).unwrap();
    let answered = || {
        let mut attempts = probe.so_far().into_iter();
        attempts.find(|it| it.at > on && it.receiver() == Some("r1"))
    };
    let (first, _) = within(LONG * 2, "an answer of the node", answered).unwrap();
    let attempts = probe.stop().unwrap();
    let failed = attempts.iter().filter(|it| !it.is_good());
    let last = failed.clone().rfind(|it| it.at < on);
    let loss = Loss {
        out,
        failing: last.map_or(Duration::ZERO, |it| it.at.saturating_duration_since(off)),
        back,
        used: first.at - on,
    };
    figures.add("node off: out of the table", secs(loss.out));
    figures.add("node off: last failed connection", secs(loss.failing));
    figures.add("node off: failed connections", failed.count());
    figures.add("node on: in the table", secs(loss.back));
    figures.add("node on: answers a client", secs(loss.used));
    loss
}
