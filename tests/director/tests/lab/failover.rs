//! Directors that go and come.

use std::time::{Duration, Instant};

use director_lab::kernel::{DELETES, Trace};
use director_lab::{Attempt, Figures, Flows, Lab, Probe, VIP, within};

use crate::{LONG, millis, pass, secs};

/// How many flows live through it.
pub(crate) const FLOWS: usize = 200;

/// What it took, once for each run.
#[derive(Default)]
pub(crate) struct Runs {
    /// Of new connections when the director went.
    pub(crate) gaps: Vec<Duration>,
    /// Flows of 200 that went on.
    pub(crate) alive: Vec<usize>,
    /// Of new connections when it came back.
    pub(crate) returns: Vec<Duration>,
}

impl Runs {
    /// The longest gap when the director went.
    pub(crate) fn worst_gap(&self) -> Duration {
        self.gaps.iter().max().copied().unwrap_or_default()
    }

    /// The longest gap when it came back.
    pub(crate) fn worst_return(&self) -> Duration {
        self.returns.iter().max().copied().unwrap_or_default()
    }

    /// The fewest flows that went on.
    pub(crate) fn fewest(&self) -> usize {
        self.alive.iter().min().copied().unwrap_or_default()
    }
}

/// The active director is cut off and comes back, so many times. Whichever is
/// active is the one that is cut.
pub(crate) fn cut_off(lab: &Lab, runs: usize, figures: &Figures) -> Runs {
    let mut all = Runs::default();
    for _ in 0..runs {
        let [master] = lab.holders()[..] else {
            panic!("not one master: {:?}", lab.holders());
        };
        let other = 1 - master;
        let flows = Flows::start(&lab.client, VIP, FLOWS);
        let flows = flows.unwrap_or_else(|error| panic!("{error:#}\n{}", sights(lab)));
        let probe = Probe::start(&lab.client, VIP);
        pass(millis(1500));
        lab.cut(&lab.directors[master]).unwrap();
        let taken = || lab.holders().contains(&other).then_some(());
        within(LONG, "the other director as master", taken).unwrap();
        pass(millis(1000));
        all.gaps.push(Attempt::gap(&probe.stop().unwrap()));
        all.alive.push(flows.survivors(Instant::now(), LONG));
        drop(flows);
        all.returns.push(back(lab, master));
    }
    figures.add(
        "director cut off: gap, median (longest)",
        Figures::spread(&all.gaps),
    );
    figures.add("director cut off: gaps in ms", distribution(&all.gaps));
    let alive = format!("{:?} of {FLOWS}", all.alive);
    figures.add("director cut off: flows that go on", alive);
    figures.add(
        "cut director returns: gap, median (longest)",
        Figures::spread(&all.returns),
    );
    all
}

/// All of them, the shortest first.
fn distribution(gaps: &[Duration]) -> String {
    let mut gaps: Vec<_> = gaps.iter().map(Duration::as_millis).collect();
    gaps.sort_unstable();
    gaps.iter().map(|it| format!("{it} ")).collect()
}

/// What the client and the directors know, when it is not as expected.
fn sights(lab: &Lab) -> String {
    let mut text = lab.client.run("ip neigh").unwrap_or_default();
    for director in &lab.directors {
        for words in [
            "ip -4 addr show dev eth0",
            "ipvsadm -Ln",
            "ipvsadm -Ln --daemon",
        ] {
            text.push_str(&director.run(words).unwrap_or_default());
        }
    }
    text + &lab.logs()
}

/// A director that was cut off is back; the gap of new connections until there
/// is one master with three receivers, and a little longer.
fn back(lab: &Lab, number: usize) -> Duration {
    let probe = Probe::start(&lab.client, VIP);
    pass(millis(500));
    lab.heal(&lab.directors[number]).unwrap();
    pass(millis(2000));
    lab.settle_anyhow().unwrap();
    let is_good = || {
        let attempts = probe.so_far();
        attempts.last().is_some_and(Attempt::is_good).then_some(())
    };
    within(LONG * 9, "an answer", is_good).unwrap();
    pass(millis(500));
    Attempt::gap(&probe.stop().unwrap())
}

/// The first director is told to end; the gap and the flows that went on.
pub(crate) fn clean_stop(lab: &mut Lab, figures: &Figures) -> (Duration, usize) {
    stop_of(lab, 0, figures)
}

/// The same for the one that is active.
pub(crate) fn stop_of(lab: &mut Lab, active: usize, figures: &Figures) -> (Duration, usize) {
    let flows = Flows::start(&lab.client, VIP, FLOWS).unwrap();
    let probe = Probe::start(&lab.client, VIP);
    pass(millis(1500));
    let took = lab.take(active).unwrap().stop().unwrap();
    let taken = || (lab.holders() == [1 - active]).then_some(());
    within(LONG, "the other director as master", taken).unwrap();
    pass(millis(1500));
    let gap = Attempt::gap(&probe.stop().unwrap());
    let alive = flows.survivors(Instant::now(), LONG);
    figures.add("clean stop: the program's end", secs(took));
    figures.add("clean stop: gap", secs(gap));
    figures.add(
        "clean stop: flows that go on",
        format!("{alive} of {FLOWS}"),
    );
    (gap, alive)
}

/// The active director's program is killed; its kernel goes on. The gap and the
/// flows that went on.
pub(crate) fn killed(lab: &mut Lab, figures: &Figures) -> (Duration, usize) {
    let flows = Flows::start(&lab.client, VIP, FLOWS).unwrap();
    let probe = Probe::start(&lab.client, VIP);
    pass(millis(1500));
    lab.director(0).unwrap().kill();
    pass(millis(5000));
    let gap = Attempt::gap(&probe.stop().unwrap());
    let alive = flows.survivors(Instant::now(), LONG);
    figures.add("director killed: gap", secs(gap));
    figures.add(
        "director killed: flows that go on",
        format!("{alive} of {FLOWS}"),
    );
    (gap, alive)
}

/// What a restart did.
pub(crate) struct Restart {
    /// How long no program ran.
    pub(crate) away: Duration,
    /// Of new connections.
    pub(crate) gap: Duration,
    /// Flows that went on, of 200.
    pub(crate) alive: usize,
    /// What was said to the kernel.
    pub(crate) commands: Vec<u8>,
}

/// The only director is killed and started again.
pub(crate) fn restarted(lab: &mut Lab, figures: &Figures) -> Restart {
    let trace = Trace::start(&lab.directors[0]).unwrap();
    let flows = Flows::start(&lab.client, VIP, FLOWS).unwrap();
    let probe = Probe::start(&lab.client, VIP);
    pass(millis(1500));
    lab.director(0).unwrap().kill();
    let gone = Instant::now();
    pass(millis(1000));
    lab.start(0).unwrap();
    let away = gone.elapsed();
    pass(millis(4000));
    let restart = Restart {
        away,
        gap: Attempt::gap(&probe.stop().unwrap()),
        alive: flows.survivors(Instant::now(), LONG),
        commands: trace.stop().unwrap(),
    };
    let deletes = restart.commands.iter().filter(|it| DELETES.contains(it));
    figures.add("killed, restarted alone: gap", secs(restart.gap));
    let alive = format!("{} of {FLOWS}", restart.alive);
    figures.add("killed, restarted alone: flows that go on", alive);
    figures.add("killed, restarted alone: deletes", deletes.count());
    restart
}
