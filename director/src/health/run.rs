//! Asks all nodes, all the time, and publishes what is known of them.
//!
//! One future, which `app` spawns: probes run inside it and end with it. What to
//! ask and what the answers mean is `board`'s business. While the clients'
//! interface is down nobody is judged: silence would be our own.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tidegate_shared::shutdown::{Shutdown, Stage};
use tokio::sync::watch;

use super::board::{Asking, Board, Settlement};
use super::path;
use super::probe::{Failure, Outcome, Prober, Way};
use super::track::Rates;
use super::{Health, Layer, Marks, NodeHealth, Verdict};
use crate::config::{CheckSettings, Settings, Vip};
use crate::journal::Journal;
use crate::model::{Family, Forwarding, KernelName};
use crate::network::Snapshot;
use crate::source::{Roster, Stance};

/// Questions that are out at once: each is a socket.
const MOST_OUT: usize = 256;
/// How often what is no decision (times of answers) is published at most.
const REFRESH: Duration = Duration::from_secs(1);
const PART: &str = "health";

/// What checking needs to be told.
#[derive(Clone, Debug)]
pub struct Checking {
    /// What is asked, how often.
    pub check: CheckSettings,
    /// The virtual addresses.
    pub vips: Vec<Vip>,
    /// Where the clients are. Nothing: where the network of the first virtual
    /// address is.
    pub interface: Option<KernelName>,
    /// How packets get to nodes.
    pub forwarding: Forwarding,
}

impl From<&Settings> for Checking {
    /// In a dry run no private virtual server leads anywhere: nodes are asked at
    /// their own addresses only.
    fn from(settings: &Settings) -> Self {
        let through_vip = settings.check.through_vip && !settings.dry_run;
        Self {
            check: CheckSettings {
                through_vip,
                ..settings.check.clone()
            },
            vips: settings.vips.clone(),
            interface: settings.interface.clone(),
            forwarding: settings.forwarding,
        }
    }
}

/// What checking needs to see.
#[derive(Clone, Debug)]
pub struct Watched {
    /// The nodes.
    pub roster: watch::Receiver<Arc<Roster>>,
    /// The marks that lead to nodes. Without one a node is asked only at its
    /// own address.
    pub marks: watch::Receiver<Arc<Marks>>,
    /// This machine's addresses and links.
    pub network: watch::Receiver<Arc<Snapshot>>,
    /// Other machines that hold virtual addresses now. What comes to such a machine
    /// for a virtual address it passes on, a probe too, to whichever node is next:
    /// of itself that says nothing.
    pub masters: watch::Receiver<Arc<BTreeSet<IpAddr>>>,
}

/// Checks the nodes until the process ends.
///
/// Publishes each change of a verdict at once (with an entry in the journal),
/// and the times of answers once a second.
pub async fn run(
    checking: Checking,
    watched: Watched,
    state: watch::Sender<Arc<Health>>,
    journal: Journal,
    mut shutdown: Shutdown,
) {
    let checks = async {
        match Prober::of(&checking.check) {
            Some(prober) => {
                let mut checks = Checks::new(checking, prober, watched, state, journal);
                checks.run().await;
            }
            None => believe_all(watched.roster, &state).await,
        }
    };
    tokio::select! {
        () = shutdown.reached(Stage::Draining) => {}
        () = checks => {}
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Waits for news; for ever, when there can be none any more.
async fn news<T>(watched: &mut watch::Receiver<T>) {
    if watched.changed().await.is_err() {
        pending::<()>().await;
    }
}

/// Without checks every node counts as up.
async fn believe_all(mut roster: watch::Receiver<Arc<Roster>>, state: &watch::Sender<Arc<Health>>) {
    loop {
        let known = Arc::clone(&roster.borrow_and_update());
        let before = Arc::clone(&state.borrow());
        let believed = |address: &IpAddr| {
            let node = before.nodes.get(address).cloned();
            let node = node.unwrap_or_else(|| NodeHealth {
                verdict: Verdict::Up,
                reason: "it is not checked".to_owned(),
                since: Some(now()),
                ..NodeHealth::default()
            });
            (*address, node)
        };
        let health = Health {
            nodes: known.nodes.keys().map(believed).collect(),
            quorum_lost: false,
        };
        state.send_replace(Arc::new(health));
        news(&mut roster).await;
    }
}

/// All that is asked and answered.
struct Checks {
    prober: Prober,
    check: CheckSettings,
    vips: Vec<Vip>,
    is_direct: bool,
    clients: Option<KernelName>,
    watched: Watched,
    state: watch::Sender<Arc<Health>>,
    journal: Journal,
    board: Board,
    out: FuturesUnordered<BoxFuture<'static, (Asking, Outcome)>>,
    marks: Arc<Marks>,
    masters: Arc<BTreeSet<IpAddr>>,
    network: Arc<Snapshot>,
    /// Nodes that a source says are down.
    doubted: BTreeSet<IpAddr>,
    is_cut_off: bool,
    /// When to publish what has not been.
    refresh: Option<Instant>,
    published: Option<Instant>,
}

impl Checks {
    fn new(
        checking: Checking,
        prober: Prober,
        watched: Watched,
        state: watch::Sender<Arc<Health>>,
        journal: Journal,
    ) -> Self {
        let Checking {
            check,
            vips,
            interface,
            forwarding,
        } = checking;
        let (rates, random) = (Rates::of(&check), fastrand::Rng::new());
        Self {
            prober,
            vips,
            is_direct: forwarding == Forwarding::DirectRouting,
            clients: interface,
            watched,
            state,
            journal,
            board: Board::new(rates, check.quorum, random),
            check,
            out: FuturesUnordered::new(),
            marks: Arc::default(),
            masters: Arc::default(),
            network: Arc::default(),
            doubted: BTreeSet::new(),
            is_cut_off: false,
            refresh: None,
            published: None,
        }
    }

    async fn run(&mut self) {
        self.see_network();
        self.see_nodes();
        loop {
            self.ask();
            self.settle();
            let due = self.due();
            tokio::select! {
                Some((asking, outcome)) = self.out.next(), if !self.out.is_empty() => {
                    self.board.answered(&asking, &outcome, now());
                    self.refresh_later();
                }
                () = news(&mut self.watched.roster) => self.see_nodes(),
                () = news(&mut self.watched.marks) => self.see_nodes(),
                () = news(&mut self.watched.masters) => self.see_nodes(),
                () = news(&mut self.watched.network) => self.see_network(),
                () = sleep_until(due) => {}
            }
        }
    }

    /// Takes over who is there, and how each can be asked.
    fn see_nodes(&mut self) {
        let roster = Arc::clone(&self.watched.roster.borrow_and_update());
        let marks = Arc::clone(&self.watched.marks.borrow_and_update());
        self.masters = Arc::clone(&self.watched.masters.borrow_and_update());
        let before = std::mem::replace(&mut self.marks, marks);
        let nodes: BTreeMap<_, _> = roster
            .nodes
            .keys()
            .map(|it| (*it, self.layers(*it)))
            .collect();
        let now = now();
        // A node whose mark is another now: what is out went by the old one.
        let is_same = |node: &IpAddr| before.get(node) == self.marks.get(node);
        let is_void = |node: &IpAddr| before.contains_key(node) && !is_same(node);
        let void: Vec<_> = nodes.keys().copied().filter(is_void).collect();
        self.board.set_nodes(&nodes, now);
        for node in void {
            self.board.void(node, now);
        }
        let is_down = |(address, node): (&IpAddr, &crate::source::Node)| {
            (node.stance() == Stance::Down).then_some(*address)
        };
        let doubted: BTreeSet<_> = roster.nodes.iter().filter_map(is_down).collect();
        for node in doubted.difference(&self.doubted) {
            self.board.hurry(*node, now);
        }
        self.doubted = doubted;
        self.publish();
    }

    fn layers(&self, node: IpAddr) -> BTreeSet<Layer> {
        let mut layers = BTreeSet::from([Layer::Plain]);
        let is_led_to = self.marks.contains_key(&node) && !self.masters.contains(&node);
        if self.check.through_vip && is_led_to {
            let vips = self.vips.iter().map(|vip| vip.address);
            let same = vips.filter(|vip| Family::of(*vip) == Family::of(node));
            layers.extend(same.map(Layer::Through));
        }
        layers
    }

    /// Takes over this machine's links; stops or starts judging with the
    /// clients' interface.
    fn see_network(&mut self) {
        self.network = Arc::clone(&self.watched.network.borrow_and_update());
        if self.clients.is_none() {
            self.clients = path::clients_interface(&self.network, &self.vips);
        }
        let Some(clients) = &self.clients else {
            return;
        };
        let interface = self.network.named(clients);
        let is_cut_off = !interface.is_some_and(|it| it.is_running);
        if is_cut_off == self.is_cut_off {
            return;
        }
        self.is_cut_off = is_cut_off;
        let (decision, cause) = if is_cut_off {
            let cause = "the clients' interface is not running";
            ("Stopped judging nodes, the last verdicts stay", cause)
        } else {
            (
                "Judges nodes again, afresh",
                "the clients' interface is running",
            )
        };
        self.journal.record(PART, clients, decision, cause);
        self.out.clear();
        self.board.restart(now());
    }

    /// Sends out what is due.
    fn ask(&mut self) {
        let now = now();
        while !self.is_cut_off && self.out.len() < MOST_OUT {
            let Some(asking) = self.board.start(now) else {
                return;
            };
            let way = self.way(&asking);
            let prober = self.prober.clone();
            self.out.push(Box::pin(async move {
                let outcome = match way {
                    Ok(way) if asking.decides && asking.layer == Layer::Plain => {
                        prober.ask_and_knock(&way).await
                    }
                    Ok(way) => prober.ask(&way).await,
                    Err(failure) => Outcome::Bad(failure),
                };
                (asking, outcome)
            }));
        }
    }

    fn way(&self, asking: &Asking) -> Result<Way, Failure> {
        let clients = self.clients.as_ref();
        let source = path::source(&self.network, &self.vips, clients, asking.node);
        let (address, mark) = match asking.layer {
            Layer::Plain => (asking.node, None),
            Layer::Through(vip) => (vip, Some(self.mark(asking.node, source)?)),
        };
        let is_direct = mark.is_some() && self.is_direct;
        Ok(Way {
            target: SocketAddr::new(address, self.check.port),
            source,
            mark,
            hops: is_direct.then_some(2),
            patience: asking.patience,
            timeout: self.check.timeout,
        })
    }

    /// The mark that leads to a node, if answers would find their way back:
    /// without an own address they would go to the virtual one.
    fn mark(&self, node: IpAddr, source: Option<IpAddr>) -> Result<NonZeroU32, Failure> {
        let own = |words: &str| Failure::Own(words.to_owned());
        source.ok_or_else(|| own("it has no own address to ask from"))?;
        let mark = self.marks.get(&node).copied();
        mark.ok_or_else(|| own("no mark leads there"))
    }

    /// Publishes what the answers changed.
    fn settle(&mut self) {
        let now = now();
        let settlement = self.board.settle(now);
        let is_due = self.refresh.is_some_and(|refresh| refresh <= now);
        if settlement != Settlement::default() || is_due {
            self.publish();
        }
        if settlement.quorum == Some(true) {
            let cause = format!("fewer than {} nodes answer", self.check.quorum);
            let decision = "Lost the quorum, the last good set stays";
            self.journal.record(PART, &"quorum", decision, cause);
        }
        for ruling in settlement.rulings {
            let decision = match ruling.verdict {
                Verdict::Up => "Counts as up",
                Verdict::Unknown => "Counts as unknown",
                Verdict::Impaired => "Counts as impaired, gets no new connections",
                Verdict::Dead => "Counts as dead",
            };
            self.journal
                .record(PART, &ruling.node, decision, ruling.reason);
        }
        if settlement.quorum == Some(false) {
            let cause = format!("{} nodes or more answer", self.check.quorum);
            self.journal
                .record(PART, &"quorum", "Has the quorum again", cause);
        }
    }

    fn publish(&mut self) {
        let now = now();
        self.refresh = None;
        self.published = Some(now);
        let health = Arc::new(self.board.health(now));
        self.state.send_if_modified(|before| {
            let is_new = *before != health;
            *before = health;
            is_new
        });
    }

    fn refresh_later(&mut self) {
        let next = self.published.map(|published| published + REFRESH);
        self.refresh.get_or_insert_with(|| next.unwrap_or_else(now));
    }

    /// When there is something to do though nothing happens.
    fn due(&self) -> Option<Instant> {
        let can_ask = !self.is_cut_off && self.out.len() < MOST_OUT;
        let ask = self.board.due().filter(|_| can_ask);
        ask.into_iter().chain(self.refresh).min()
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests;
