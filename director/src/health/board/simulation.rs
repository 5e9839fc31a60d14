//! A board and nodes that behave as told, on a clock of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::super::probe::{Failure, Outcome};
use super::super::track::Rates;
use super::super::{Layer, Verdict};
use super::{Asking, Board, Ruling};

pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 10));

/// How a node behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Answers after this long.
    Good(Duration),
    /// Is not there.
    Silent,
    /// Is there, but lost the virtual address.
    NoVip,
    /// Refuses.
    Refused,
    /// Answers wrongly.
    Wrong,
    /// Takes connections at once, and answers after the time limit.
    Slow,
    /// This machine can't ask.
    Blind,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) board: Board,
    pub(super) start: Instant,
    pub(super) now: Instant,
    pub(super) ways: BTreeMap<IpAddr, Way>,
    rates: Rates,
    pending: BTreeMap<(Instant, u64), (Asking, Outcome)>,
    pub(super) rulings: Vec<(Duration, Ruling)>,
    pub(super) quorum: Vec<(Duration, bool)>,
    pub(super) asked: usize,
    /// The most questions to one node by one way at a time.
    pub(super) at_once: usize,
}

pub(super) fn node(number: u8) -> IpAddr {
    [192, 0, 2, 100 + number].into()
}

impl World {
    pub(super) fn new(count: u8, interval: u32, quorum: u32, seed: u64) -> Self {
        let start = Instant::now();
        let rates = Rates {
            interval: MS * interval,
            timeout: MS * interval,
            rise: 2,
            fall: 3,
        };
        let nodes: Vec<_> = (1..=count).map(node).collect();
        let mut world = Self {
            board: Board::new(rates, quorum, fastrand::Rng::with_seed(seed)),
            start,
            now: start,
            ways: nodes.iter().map(|it| (*it, Way::Good(MS))).collect(),
            rates,
            pending: BTreeMap::new(),
            rulings: Vec::new(),
            quorum: Vec::new(),
            asked: 0,
            at_once: 0,
        };
        world.set(&nodes);
        world
    }

    pub(super) fn set(&mut self, nodes: &[IpAddr]) {
        let layers = BTreeSet::from([Layer::Plain, Layer::Through(VIP)]);
        let nodes = nodes.iter().map(|it| (*it, layers.clone())).collect();
        self.board.set_nodes(&nodes, self.now);
    }

    fn answer(&self, asking: &Asking) -> (Duration, Outcome) {
        let timeout = self.rates.timeout;
        let patience = asking.patience;
        let silent = (patience, Outcome::Bad(Failure::Silent(patience)));
        let bad = |failure| (MS, Outcome::Bad(failure));
        let way = self.ways.get(&asking.node).copied().unwrap_or(Way::Silent);
        match way {
            Way::Good(took) if took > patience => silent,
            Way::Good(took) => (
                took,
                Outcome::Good {
                    connected: took,
                    took,
                },
            ),
            Way::NoVip if asking.layer == Layer::Plain => (
                MS,
                Outcome::Good {
                    connected: MS,
                    took: MS,
                },
            ),
            Way::Silent | Way::NoVip => silent,
            Way::Refused => bad(Failure::Refused),
            Way::Wrong => bad(Failure::Status(503)),
            Way::Slow => (timeout, Outcome::Bad(Failure::Slow(timeout))),
            Way::Blind => bad(Failure::Own("no descriptors".to_owned())),
        }
    }

    fn ask(&mut self) {
        while let Some(asking) = self.board.start(self.now) {
            let (took, outcome) = self.answer(&asking);
            self.asked += 1;
            let key = (self.now + took, asking.ticket);
            self.pending.insert(key, (asking, outcome));
            let same = self
                .pending
                .values()
                .filter(|(other, _)| (other.node, other.layer) == (asking.node, asking.layer));
            self.at_once = self.at_once.max(same.count());
        }
    }

    fn settle(&mut self) {
        let at = self.now - self.start;
        let settlement = self.board.settle(self.now);
        self.quorum.extend(settlement.quorum.map(|lost| (at, lost)));
        let rulings = settlement.rulings.into_iter();
        self.rulings.extend(rulings.map(|ruling| (at, ruling)));
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.ask();
            self.settle();
            let answer = self.pending.keys().next().map(|(at, _)| *at);
            let next = answer.into_iter().chain(self.board.due()).min();
            let Some(next) = next.filter(|next| *next < end) else {
                break;
            };
            self.now = self.now.max(next);
            while let Some(first) = self.pending.first_entry() {
                if first.key().0 > self.now {
                    break;
                }
                let (asking, outcome) = first.remove();
                self.board.answered(&asking, &outcome, self.now);
            }
        }
        self.now = end;
    }

    /// Questions that are out are forgotten, as `run` does when the link is down.
    pub(super) fn cut(&mut self) {
        self.pending.clear();
        self.board.restart(self.now);
    }

    pub(super) fn verdict(&self, number: u8) -> Verdict {
        self.board.nodes[&node(number)].verdict
    }

    pub(super) fn verdicts(&self) -> Vec<Verdict> {
        self.board.nodes.values().map(|it| it.verdict).collect()
    }

    /// How long after now the node gets another verdict; it is run that long.
    pub(super) fn until(&mut self, number: u8, verdict: Verdict) -> Duration {
        let from = self.now;
        while self.verdict(number) != verdict {
            assert!(
                self.now - from < Duration::from_secs(120),
                "never {verdict:?}"
            );
            self.run(MS);
        }
        self.now - from
    }
}
