//! What the loop knows, and one pass: work out what is desired, compare,
//! change, say so.
//!
//! A pass that finds nothing new reads the kernel in parts, so that all of a
//! table is read within a second and no pass takes long.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::cause::Causes;
use super::look::PIECES;
use super::run::{Feeds, Outlets};
use super::{Reconciler, Report, Tuning};
use crate::config::Settings;
use crate::desired::{Desired, Duty, Inputs, Serving, desire};
use crate::health::{Health, Marks};
use crate::ipvs::{IpvsError, Kernel};
use crate::model::{Family, Table, VirtualAddress};
use crate::network::Snapshot;
use crate::plan::Ownership;
use crate::source::Roster;
use crate::view::ControlState;

/// How often the table is looked at: drift is repaired within a second.
const TICK: Duration = Duration::from_millis(500);

/// A table of more virtual and real servers is looked at in parts, all of it
/// within 0.8 s. Where changes are seen at a glance, that is what takes so long;
/// what a glance does not show is then read within 25 s.
const SMALL: usize = 512;
const PART_TICK: Duration = Duration::from_millis(50);
const SLOW_PARTS: usize = 500;

/// How long to wait after an error that stops everything, at first and at most.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The loop's knowledge.
pub(super) struct Control<K> {
    pub(super) kernel: Arc<K>,
    pub(super) reconciler: Reconciler<K>,
    pub(super) tuning: Option<Box<dyn Tuning>>,
    pub(super) settings: Arc<Settings>,
    pub(super) out: Outlets,
    pub(super) roster: Arc<Roster>,
    pub(super) health: Arc<Health>,
    pub(super) registered: Arc<Table>,
    pub(super) network: Arc<Snapshot>,
    pub(super) serving: Duty,
    /// Since when there is a table without an address, and no order.
    pub(super) bare: Option<Instant>,
    pub(super) drained: BTreeSet<IpAddr>,
    pub(super) is_torn_down: bool,
    /// What the kernel held at the start; nothing until it could be read.
    adopted: Option<Table>,
    desired: Desired,
    table: Arc<Table>,
    /// Was the kernel found as desired by the last pass?
    is_settled: bool,
    /// What became of the last pass that changed anything or failed.
    pub(super) last: Report,
    /// What goes without answer altogether, in words.
    pub(super) general: Option<String>,
    /// What goes wrong beside the table, in words.
    pub(super) upkeep: Option<String>,
    wait: Duration,
    due: Instant,
    published: Option<Instant>,
    pub(super) state: ControlState,
    pub(super) care: super::place::Care,
}

impl<K: Kernel> Control<K> {
    pub(super) fn new(
        kernel: Arc<K>,
        tuning: Option<Box<dyn Tuning>>,
        settings: Arc<Settings>,
        out: Outlets,
    ) -> Self {
        let vips = settings.vips.iter().map(|vip| vip.address);
        let ours = Ownership::new(vips);
        // Without an election this machine is alone.
        let serving = match settings.vrrp.enabled {
            true => Serving::Undecided,
            false => Serving::Yes,
        };
        let serving = Duty::new(&settings, serving);
        // A start before this one may have left them there.
        let drained = out.state.borrow().drained.clone();
        Self {
            reconciler: Reconciler::sharing(Arc::clone(&kernel), ours),
            kernel,
            tuning,
            settings,
            out,
            roster: Arc::default(),
            health: Arc::default(),
            registered: Arc::default(),
            network: Arc::default(),
            serving,
            bare: None,
            drained,
            is_torn_down: false,
            adopted: None,
            desired: Desired::default(),
            table: Arc::default(),
            is_settled: false,
            last: Report::default(),
            general: None,
            upkeep: None,
            wait: FIRST_WAIT,
            due: Instant::now(),
            published: None,
            state: ControlState::default(),
            care: super::place::Care::default(),
        }
    }

    /// Takes in what the other parts say.
    pub(super) fn follow(&mut self, feeds: &Feeds) {
        self.roster = Arc::clone(&feeds.roster.borrow());
        self.health = Arc::clone(&feeds.health.borrow());
        self.registered = Arc::clone(&feeds.registered.borrow());
        self.network = Arc::clone(&feeds.network.borrow());
    }

    /// When the kernel is to be looked at again.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// What there is to do now. After an error that stops everything, nothing
    /// until the wait is over.
    pub(super) async fn step(&mut self) {
        if self.general.is_some() && Instant::now() < self.due {
            return;
        }
        self.pass().await;
        if self.general.is_none() {
            self.keep_up().await;
        }
        self.publish();
    }

    /// One pass. What went wrong is in `general` and `last`.
    pub(super) async fn pass(&mut self) {
        let begin = Instant::now();
        match self.try_pass(begin).await {
            Ok(false) => return,
            Ok(true) => {
                self.note_general(None);
                self.wait = FIRST_WAIT;
                self.due = begin + self.part().1;
            }
            Err(error) => {
                self.is_settled = false;
                self.state.counts.netlink_errors += 1;
                self.publish_marks(&Marks::new());
                self.note_general(Some(error.to_string()));
                self.due = Instant::now() + self.wait;
                self.wait = (self.wait * 2).min(LONGEST_WAIT);
            }
        }
        self.state.counts.passes += 1;
        self.state.took = begin.elapsed();
    }

    /// Returns whether the kernel was asked anything.
    async fn try_pass(&mut self, now: Instant) -> Result<bool, IpvsError> {
        let adopted = self.adopt().await?;
        self.abandon(now);
        let new = self.work_out(&adopted, now);
        self.adopted = Some(adopted);
        let is_new = new.table != self.table;
        self.raise(&new);
        if !is_new && self.is_settled && now < self.due {
            self.desired = new;
            return Ok(false);
        }
        let mut only = None;
        if self.is_settled {
            only = Some(match is_new {
                true => differing(&self.table, &new.table),
                false => self.reconciler.look(&self.table, self.part().0).await?,
            });
        }
        self.desired = new;
        let is_drift = self.is_settled && !is_new;
        // Also if it is equal: the very same one is quick to compare the next time.
        self.table = Arc::clone(&self.desired.table);
        if only.as_ref().is_none_or(|wrong| !wrong.is_empty()) {
            self.change(only, is_drift).await?;
        } else {
            self.state.settled = Some(now.into_std());
        }
        self.publish_marks(&self.desired.marks.clone());
        Ok(true)
    }

    /// How many virtual servers to look at, and how often.
    fn part(&self) -> (usize, Duration) {
        let seen = self.reconciler.seen();
        let reals = seen.values().map(|it| it.real_servers.len());
        let count = seen.len();
        if count + reals.sum::<usize>() <= SMALL {
            return (count, TICK);
        }
        let parts = match self.reconciler.has_glances() {
            true => SLOW_PARTS,
            false => PIECES,
        };
        (count.div_ceil(parts), PART_TICK)
    }

    /// What the kernel held at the start: read once, before anything else.
    async fn adopt(&mut self) -> Result<Table, IpvsError> {
        if let Some(adopted) = self.adopted.take() {
            return Ok(adopted);
        }
        let adopted = self.reconciler.actual(&Table::new()).await?;
        self.desired = Desired::adopt(&self.settings, &adopted);
        if !adopted.is_empty() {
            let decision = format!("took over {} virtual servers as they were", adopted.len());
            let cause = "an earlier director left them";
            self.out.journal.record("table", &"kernel", decision, cause);
        }
        Ok(adopted)
    }

    fn work_out(&self, adopted: &Table, now: Instant) -> Desired {
        if self.is_torn_down {
            return Desired::default();
        }
        let busy = self.busy();
        let inputs = Inputs {
            settings: &self.settings,
            roster: &self.roster,
            health: &self.health,
            drained: &self.drained,
            registered: &self.registered,
            adopted,
            busy: &busy,
            serving: self.serving,
            now: now.into_std(),
        };
        desire(&inputs, &self.desired)
    }

    /// Nodes with connections, as far as the kernel sees.
    fn busy(&self) -> BTreeSet<IpAddr> {
        let seen = self.reconciler.seen().iter();
        let shown = seen.filter(|(address, _)| address.ip().is_some());
        let reals = shown.flat_map(|(_, server)| &*server.real_servers);
        let busy = reals.filter(|real| real.load.active > 0);
        busy.map(|real| real.address.ip()).collect()
    }

    async fn change(
        &mut self,
        only: Option<BTreeSet<VirtualAddress>>,
        is_drift: bool,
    ) -> Result<(), IpvsError> {
        // No probe is to use a mark from before it is removed.
        self.publish_marks(&self.desired.marks.clone());
        self.is_settled = false;
        let table = Arc::clone(&self.table);
        let outcome = self.reconciler.reconcile_only(&table, only).await;
        let report = match outcome {
            Ok(report) => report,
            Err(error) => {
                self.last = Report::default();
                return Err(error);
            }
        };
        self.is_settled = report.is_settled;
        let counts = &mut self.state.counts;
        let made = u64::try_from(report.changes.len()).unwrap_or(u64::MAX);
        counts.changes += made;
        counts.repairs += if is_drift { made } else { 0 };
        let refused = report.failures.iter().filter(|it| it.error.is_some());
        counts.refusals += u64::try_from(refused.count()).unwrap_or(u64::MAX);
        if report.is_settled {
            self.state.settled = Some(Instant::now().into_std());
        }
        let causes = Causes {
            desired: &self.desired,
            serving: self.serving,
            is_drift,
            is_teardown: self.is_torn_down,
        };
        causes.record(&self.out.journal, &report.changes);
        self.last = report;
        self.published = None;
        Ok(())
    }

    /// Says once when the evidence begins or ends to be disbelieved.
    fn raise(&self, new: &Desired) {
        if new.alarm == self.desired.alarm {
            return;
        }
        let journal = &self.out.journal;
        match &new.alarm {
            Some(alarm) => journal.alarm("table", &"nodes", "raised an alarm", alarm.as_str()),
            None => journal.record(
                "table",
                &"nodes",
                "ended the alarm",
                "nodes look well again",
            ),
        }
    }

    /// Says once when the kernel can't be reached, and when it can again.
    fn note_general(&mut self, error: Option<String>) {
        if error == self.general {
            return;
        }
        let journal = &self.out.journal;
        match &error {
            Some(error) => {
                journal.alarm("table", &"kernel", "can't keep the table", error.as_str());
            }
            None => journal.record("table", &"kernel", "keeps the table again", "it answers"),
        }
        self.general = error;
        self.published = None;
    }

    /// Publishes those marks that lead where they should in the kernel.
    fn publish_marks(&mut self, wanted: &Marks) {
        let seen = self.reconciler.seen();
        let leads = |node: &IpAddr, mark| {
            let address = VirtualAddress::FirewallMark(Family::of(*node), mark);
            let server = seen.get(&address);
            server.is_some_and(|it| match &*it.real_servers {
                [only] => only.address.ip() == *node && only.server.weight > 0,
                _ => false,
            })
        };
        let held = wanted.iter().filter(|(node, mark)| leads(node, **mark));
        let held: Marks = held.map(|(node, mark)| (*node, *mark)).collect();
        if held != self.state.marks {
            self.state.marks = held.clone();
            self.out.marks.send_replace(Arc::new(held));
            self.published = None;
        }
    }

    /// Says how things stand: at once after a change, else as often as the
    /// table is looked at.
    pub(super) fn publish(&mut self) {
        let now = Instant::now();
        let is_fresh = |at: Instant| now.saturating_duration_since(at) < TICK;
        let is_same = self.state.standing == self.desired.standing;
        if is_same && self.published.is_some_and(is_fresh) {
            return;
        }
        self.published = Some(now);
        let failures = &self.last.failures;
        let pending = failures.iter().map(|it| it.change.clone()).collect();
        let (alarm, trouble) = (self.alarm(), self.trouble());
        let state = &mut self.state;
        state.desired = Arc::clone(&self.table);
        state.is_serving = self.serving.has(Serving::Yes) && !self.is_torn_down;
        state.drained.clone_from(&self.drained);
        state.standing.clone_from(&self.desired.standing);
        state.alarm = alarm;
        state.pending = pending;
        state.replaced.clone_from(&self.last.replaced);
        state.trouble = trouble;
        let mut state = self.state.clone();
        state.actual.clone_from(self.reconciler.seen());
        self.out.state.send_replace(Arc::new(state));
    }

    /// What needs attention although nothing fails, in words.
    fn alarm(&self) -> Option<String> {
        let crowd = self.care.crowd.as_ref();
        let both = self.desired.alarm.iter().chain(crowd);
        let both: Vec<_> = both.map(String::as_str).collect();
        (!both.is_empty()).then(|| both.join("; "))
    }

    /// What goes wrong, in words.
    fn trouble(&self) -> Option<String> {
        let failures = self.last.failures.iter();
        let refused = failures.filter_map(|it| it.error.as_ref());
        let first = refused.map(ToString::to_string).next();
        let alive = || first.or_else(|| self.upkeep.clone());
        self.general.clone().or_else(alive)
    }
}

/// The virtual servers in which two tables differ.
fn differing(one: &Table, other: &Table) -> BTreeSet<VirtualAddress> {
    let keys = one.keys().chain(other.keys());
    keys.filter(|address| one.get(address) != other.get(address))
        .copied()
        .collect()
}
