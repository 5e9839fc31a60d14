//! All nodes: which question is due, what the answers amount to, and whether
//! there are enough good nodes to believe the bad news.
//!
//! Pure; the clock is passed in. `run` asks what [`Board::start`] hands out and
//! brings the answers back, and [`Board::settle`] says what changed.
//!
//! Rules of the quorum:
//! - No node is put in a worse place before `quorum` nodes that are up have
//!   answered well *since* it came into doubt; if need be they are asked at
//!   once. So a machine that goes deaf takes nobody out.
//! - When fewer than `quorum` are left, nobody's place gets worse until there
//!   are enough again, and the others had the time to answer too; good news
//!   count at any time, and holds are waived.
//! - A quorum of 0 switches both off: even the last node is taken out.

mod node;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use self::node::Node;
use super::probe::Outcome;
use super::track::{Rates, Track};
use super::{Health, Layer, Verdict};

/// Questions in a second, of all nodes together: with more to ask, each is
/// asked less often.
const MOST_PER_SECOND: u32 = 2000;

/// How long the others have to answer, at least, once the quorum is back.
const SPARED: Duration = Duration::from_millis(500);

/// A question that is to be asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asking {
    pub(super) node: IpAddr,
    pub(super) layer: Layer,
    pub(super) patience: Duration,
    /// A bad answer would decide.
    pub(super) decides: bool,
    /// Which question it is, and when it was asked.
    pub(super) ticket: u64,
    pub(super) asked: Instant,
}

/// A change of a node's verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ruling {
    pub(super) node: IpAddr,
    pub(super) verdict: Verdict,
    pub(super) reason: String,
}

/// What changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settlement {
    pub(super) rulings: Vec<Ruling>,
    /// The quorum was lost (`true`), or is there again.
    pub(super) quorum: Option<bool>,
}

/// All nodes.
#[derive(Debug)]
pub(super) struct Board {
    rates: Rates,
    quorum: usize,
    random: fastrand::Rng,
    nodes: BTreeMap<IpAddr, Node>,
    /// Every way of asking that no question is out for, by when it is due.
    queue: BTreeSet<(Instant, IpAddr, Layer)>,
    /// Nodes that may have to be put elsewhere.
    open: BTreeSet<IpAddr>,
    tickets: u64,
    /// Ways of asking, of all nodes.
    layers: u32,
    is_lost: bool,
    /// Until then nobody's place gets worse: the quorum has just come back.
    spared_until: Option<Instant>,
    /// The roster changed since the last settlement.
    is_new: bool,
}

impl Board {
    pub(super) fn new(rates: Rates, quorum: u32, random: fastrand::Rng) -> Self {
        Self {
            rates,
            quorum: usize::try_from(quorum).unwrap_or(usize::MAX),
            random,
            nodes: BTreeMap::new(),
            queue: BTreeSet::new(),
            open: BTreeSet::new(),
            tickets: 0,
            layers: 0,
            is_lost: false,
            spared_until: None,
            is_new: false,
        }
    }

    /// These are the nodes, with the ways of asking each. What was known of
    /// those that stay is kept.
    pub(super) fn set_nodes(&mut self, nodes: &BTreeMap<IpAddr, BTreeSet<Layer>>, now: Instant) {
        self.nodes.retain(|address, _| nodes.contains_key(address));
        for (address, layers) in nodes {
            let node = self.nodes.entry(*address).or_default();
            node.tracks.retain(|layer, _| layers.contains(layer));
            for layer in layers {
                let track = node.tracks.entry(*layer);
                track.or_insert_with(|| Track::new(now));
            }
            self.open.insert(*address);
        }
        self.open.retain(|address| nodes.contains_key(address));
        self.is_new = true;
        let layers = nodes.values().map(BTreeSet::len).sum::<usize>();
        self.layers = u32::try_from(layers).unwrap_or(u32::MAX);
        self.requeue();
    }

    fn requeue(&mut self) {
        let waiting = self.nodes.iter().flat_map(|(address, node)| {
            let tracks = node.tracks.iter().filter(|(_, track)| track.out.is_none());
            tracks.map(|(layer, track)| (track.due, *address, *layer))
        });
        self.queue = waiting.collect();
    }

    /// Asks this node at once, by every way.
    pub(super) fn hurry(&mut self, address: IpAddr, now: Instant) {
        self.hurry_but(address, None, now);
    }

    fn hurry_but(&mut self, address: IpAddr, but: Option<Layer>, now: Instant) {
        let Some(node) = self.nodes.get_mut(&address) else {
            return;
        };
        for (layer, track) in &mut node.tracks {
            if Some(*layer) != but && track.out.is_none() && track.due > now {
                self.queue.remove(&(track.due, address, *layer));
                track.due = now;
                self.queue.insert((now, address, *layer));
            }
        }
    }

    /// Questions that are out for this node are void: they went astray.
    pub(super) fn void(&mut self, address: IpAddr, now: Instant) {
        if let Some(node) = self.nodes.get_mut(&address) {
            for track in node.tracks.values_mut().filter(|track| track.out.is_some()) {
                track.out = None;
                track.due = now;
            }
        }
        self.requeue();
    }

    /// This machine was away: questions that are out are void, counts begin
    /// anew, and everybody is asked at once.
    pub(super) fn restart(&mut self, now: Instant) {
        for node in self.nodes.values_mut() {
            for track in node.tracks.values_mut() {
                track.restart();
                track.due = now;
            }
        }
        self.requeue();
    }

    /// When the next question is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.queue.first().map(|(due, ..)| *due)
    }

    /// A question that is due, if there is one. At most one is out for each way
    /// of asking a node.
    pub(super) fn start(&mut self, now: Instant) -> Option<Asking> {
        let first = *self.queue.first().filter(|(due, ..)| *due <= now)?;
        self.queue.remove(&first);
        let (_, address, layer) = first;
        let node = self.nodes.get_mut(&address)?;
        let fall = node.pooled_fall(layer, &self.rates);
        let track = node.tracks.get_mut(&layer)?;
        self.tickets += 1;
        track.out = Some(self.tickets);
        Some(Asking {
            node: address,
            layer,
            patience: track.patience(&self.rates, fall),
            decides: track.decides(fall),
            ticket: self.tickets,
            asked: now,
        })
    }

    /// Takes an answer. One to a question that is void is left aside.
    pub(super) fn answered(&mut self, asking: &Asking, outcome: &Outcome, now: Instant) {
        let Asking {
            node: address,
            layer,
            ..
        } = *asking;
        let period = self.period(address, layer);
        let Some(node) = self.nodes.get_mut(&address) else {
            return;
        };
        if node.tracks.get(&layer).and_then(|track| track.out) != Some(asking.ticket) {
            return;
        }
        let was_in_doubt = node.doubted().is_some();
        let Some(due) = node.answered(asking, outcome, (&self.rates, period), now) else {
            return;
        };
        self.queue.insert((due, address, layer));
        self.open.insert(address);
        if !was_in_doubt && node.doubted().is_some() {
            self.hurry_but(address, Some(layer), now);
        }
    }

    /// How often a way of asking is used: the real path twice in an interval,
    /// the node's own address once if there is that, with up to a fifth less so
    /// that nobody keeps step.
    fn period(&mut self, address: IpAddr, layer: Layer) -> Duration {
        let least = Duration::from_secs(1).saturating_mul(self.layers) / MOST_PER_SECOND;
        let is_main = layer != Layer::Plain
            || self
                .nodes
                .get(&address)
                .is_none_or(|node| node.tracks.len() == 1);
        let divisor = if is_main { 2 } else { 1 };
        let period = (self.rates.interval / divisor).max(least);
        period.mul_f64(1.0 - self.random.f64() / 5.0)
    }

    /// Works out what the answers so far change.
    pub(super) fn settle(&mut self, now: Instant) -> Settlement {
        let mut settlement = Settlement::default();
        if self.open.is_empty() && !self.is_new {
            return settlement;
        }
        self.is_new = false;
        self.find(now);
        self.weigh_quorum(now, &mut settlement);
        for address in std::mem::take(&mut self.open) {
            self.place(address, now, &mut settlement);
        }
        settlement
    }

    fn find(&mut self, now: Instant) {
        for address in &self.open {
            if let Some(node) = self.nodes.get_mut(address) {
                node.find(now);
            }
        }
    }

    fn count(&self, is_counted: impl Fn(&Node) -> bool) -> usize {
        self.nodes.values().filter(|node| is_counted(node)).count()
    }

    /// Is the quorum lost or back? Holds are waived before it is lost.
    fn weigh_quorum(&mut self, now: Instant, settlement: &mut Settlement) {
        let mut possible = self.count(|node| node.is_good() || node.is_undecided());
        if possible < self.quorum {
            for (address, node) in &mut self.nodes {
                if node.release(now) {
                    self.open.insert(*address);
                    possible += 1;
                }
            }
        }
        let is_lost = !self.nodes.is_empty() && possible < self.quorum;
        let is_back =
            self.is_lost && (self.nodes.is_empty() || self.count(Node::is_good) >= self.quorum);
        if is_lost && !self.is_lost {
            settlement.quorum = Some(true);
            self.is_lost = true;
        } else if is_back {
            settlement.quorum = Some(false);
            self.is_lost = false;
            self.spared_until = Some(now + self.rates.interval.max(SPARED));
            self.open.extend(self.nodes.keys());
            self.find(now);
            for address in self.open.clone() {
                self.hurry(address, now);
            }
        }
    }

    /// Puts a node where it belongs, if that may be done now.
    fn place(&mut self, address: IpAddr, now: Instant, settlement: &mut Settlement) {
        let Some(node) = self.nodes.get(&address) else {
            return;
        };
        // A node that is held is looked at again at each answer.
        let is_worse = node.is_to_be_worse();
        if is_worse && self.quorum > 0 {
            if self.is_lost {
                return;
            }
            if self.spared_until.is_some_and(|until| until > now) {
                self.open.insert(address);
                return;
            }
            let since = node.last_doubted().unwrap_or(now);
            if self.count(|other| other.is_good_since(since)) < self.quorum {
                self.open.insert(address);
                self.ask_witnesses(since, now);
                return;
            }
        }
        let rates = self.rates;
        let node = self.nodes.get_mut(&address);
        if let Some((verdict, reason)) = node.and_then(|node| node.place(&rates, now)) {
            settlement.rulings.push(Ruling {
                node: address,
                verdict,
                reason,
            });
        }
    }

    /// Asks good nodes that have not answered since then: enough, not all.
    fn ask_witnesses(&mut self, since: Instant, now: Instant) {
        let asked = |node: &Node| node.is_good() && !node.is_good_since(since);
        let stale = self.nodes.iter().filter(|(_, node)| asked(node));
        let stale = stale.map(|(address, _)| *address);
        let stale: Vec<_> = stale.take(self.quorum.saturating_add(3)).collect();
        for address in stale {
            self.hurry(address, now);
        }
    }

    /// All that is known.
    pub(super) fn health(&self, now: Instant) -> Health {
        let nodes = self.nodes.iter();
        Health {
            nodes: nodes
                .map(|(address, node)| (*address, node.health(now)))
                .collect(),
            quorum_lost: self.is_lost,
        }
    }
}
