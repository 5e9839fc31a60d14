//! A running loop, with all other parts played by a test.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegate_shared::shutdown::{self, Trigger};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::super::*;
use crate::config::Settings;
use crate::desired::tests::settings;
use crate::health::{Health, Marks, NodeHealth, Verdict};
use crate::ipvs::{Memory, Operation};
use crate::journal::Journal;
use crate::model::{Family, Forwarding, Protocol, RealServer, SyncRole};
use crate::network::{Interface, InterfaceAddress, Snapshot};
use crate::source::{Node, Origin, Roster, Sighting, SourceState, Stance};
use crate::view::{Ask, Command, ControlState, Order};

pub(super) const FLAGS: &str = "--vip 192.0.2.1/24 --port 80,443 --node 10.0.0.1";

pub(super) fn ip(number: u8) -> IpAddr {
    [10, 0, 0, number].into()
}

pub(super) fn web(port: u16) -> VirtualAddress {
    VirtualAddress::Socket(Protocol::Tcp, ([192, 0, 2, 1], port).into())
}

pub(super) fn host(number: u8, port: u16) -> SocketAddr {
    (ip(number), port).into()
}

pub(super) fn direct(weight: u32) -> RealServer {
    RealServer::new(Forwarding::DirectRouting, weight)
}

pub(super) fn roster(numbers: &[u8]) -> Roster {
    let sighting = Sighting {
        stance: Stance::Ready,
        name: None,
        weight: None,
        seen: Instant::now().into_std(),
    };
    let node = Node {
        sightings: BTreeMap::from([(Origin::Static, sighting)]),
    };
    let answered = SourceState {
        answered: Some(Instant::now().into_std()),
        error: None,
    };
    Roster {
        nodes: numbers.iter().map(|it| (ip(*it), node.clone())).collect(),
        sources: BTreeMap::from([(Origin::Static, answered)]),
    }
}

pub(super) fn health(verdicts: &[(u8, Verdict)]) -> Health {
    let nodes = verdicts.iter().map(|(number, verdict)| {
        let health = NodeHealth {
            verdict: *verdict,
            reason: format!("found {verdict:?}"),
            ..NodeHealth::default()
        };
        (ip(*number), health)
    });
    Health {
        nodes: nodes.collect(),
        quorum_lost: false,
    }
}

pub(super) fn network(addresses: &[[u8; 4]]) -> Snapshot {
    let own = addresses.iter().map(|address| InterfaceAddress {
        address: (*address).into(),
        prefix: 24,
        is_tentative: false,
    });
    let eth = Interface {
        index: 2,
        name: KernelName::new("eth0").unwrap(),
        hardware: None,
        is_running: true,
        is_up: true,
        mtu: 1500,
        is_loopback: false,
        is_dummy: false,
        addresses: own.collect(),
    };
    Snapshot {
        interfaces: vec![eth],
        gateways: Vec::new(),
    }
}

/// Settings in memory: what is there, and what was there before.
#[derive(Clone, Default)]
pub(super) struct Knobs(pub(super) Arc<Mutex<BTreeMap<String, String>>>);

impl Tuning for Knobs {
    fn set(&mut self, key: &str, value: &str) -> Result<Option<String>, String> {
        let mut all = self.0.lock().unwrap();
        let before = all.insert(key.to_owned(), value.to_owned());
        let before = before.unwrap_or_else(|| "0".to_owned());
        Ok((before != value).then_some(before))
    }

    fn restore(&mut self) -> Vec<String> {
        self.0.lock().unwrap().clear();
        Vec::new()
    }
}

/// A running loop, with all other parts played by the test.
pub(super) struct Bench {
    pub(super) kernel: Arc<Memory>,
    pub(super) knobs: Knobs,
    pub(super) settings: Arc<Settings>,
    pub(super) roster: watch::Sender<Arc<Roster>>,
    pub(super) health: watch::Sender<Arc<Health>>,
    pub(super) registered: watch::Sender<Arc<Table>>,
    pub(super) network: watch::Sender<Arc<Snapshot>>,
    pub(super) orders: Option<mpsc::Sender<Order>>,
    pub(super) asks: mpsc::Sender<Ask>,
    pub(super) state: watch::Receiver<Arc<ControlState>>,
    pub(super) marks: watch::Receiver<Arc<Marks>>,
    pub(super) journal: Journal,
    pub(super) trigger: Trigger,
    pub(super) task: JoinHandle<()>,
}

impl Bench {
    pub(super) fn start(kernel: Memory, flags: &str) -> Self {
        let (kernel, settings) = (Arc::new(kernel), Arc::new(settings(flags)));
        let (roster, roster_seen) = watch::channel(Arc::default());
        let (health, health_seen) = watch::channel(Arc::default());
        let (registered, registered_seen) = watch::channel(Arc::default());
        let (network, network_seen) =
            watch::channel(Arc::new(network(&[[192, 0, 2, 5], [192, 0, 2, 1]])));
        let (orders, orders_seen) = mpsc::channel(4);
        let (asks, asks_seen) = mpsc::channel(4);
        let (state_out, state) = watch::channel(Arc::default());
        let (marks_out, marks) = watch::channel(Arc::default());
        let (trigger, shutdown) = shutdown::channel();
        let (journal, knobs) = (Journal::default(), Knobs::default());
        let feeds = Feeds {
            roster: roster_seen,
            health: health_seen,
            registered: registered_seen,
            network: network_seen,
            orders: orders_seen,
            asks: asks_seen,
        };
        let outlets = Outlets {
            state: state_out,
            marks: marks_out,
            journal: journal.clone(),
        };
        let tuning: Box<dyn Tuning> = Box::new(knobs.clone());
        let task = tokio::spawn(run(
            Arc::clone(&kernel),
            Some(tuning),
            Arc::clone(&settings),
            feeds,
            outlets,
            shutdown,
        ));
        Self {
            kernel,
            knobs,
            settings,
            roster,
            health,
            registered,
            network,
            orders: Some(orders),
            asks,
            state,
            marks,
            journal,
            trigger,
            task,
        }
    }

    /// With two nodes that are up, and as master.
    pub(super) async fn serving(kernel: Memory) -> Self {
        let bench = Self::start(kernel, FLAGS);
        bench.roster.send_replace(Arc::new(roster(&[1, 2])));
        bench.check(&[(1, Verdict::Up), (2, Verdict::Up)]);
        bench.order(true).await.unwrap();
        bench
    }

    pub(super) fn check(&self, verdicts: &[(u8, Verdict)]) {
        self.health.send_replace(Arc::new(health(verdicts)));
    }

    pub(super) async fn order(&self, is_serving: bool) -> Result<(), String> {
        let (answer, answered) = oneshot::channel();
        let order = match is_serving {
            true => Order::Program(Family::V4, answer),
            false => Order::Withdraw(Family::V4, answer),
        };
        let orders = self.orders.as_ref().unwrap();
        orders.send(order).await.unwrap();
        timeout(Duration::from_secs(30), answered)
            .await
            .unwrap()
            .unwrap()
    }

    pub(super) async fn ask(&self, command: Command) -> Result<String, String> {
        let (answer, answered) = oneshot::channel();
        self.asks.send((command, answer)).await.unwrap();
        timeout(Duration::from_secs(30), answered)
            .await
            .unwrap()
            .unwrap()
    }

    /// Waits until the kernel's real servers behind a port have these weights.
    pub(super) async fn until(&self, port: u16, expected: &[(u8, u32)], within: Duration) {
        let wanted: BTreeSet<_> = expected.iter().copied().collect();
        let end = Instant::now() + within;
        loop {
            let found = self.weights(port).await;
            if found == wanted {
                return;
            }
            assert!(Instant::now() < end, "{found:?} and not {wanted:?}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    pub(super) async fn weights(&self, port: u16) -> BTreeSet<(u8, u32)> {
        let Ok(reals) = self.kernel.real_servers(web(port)).await else {
            return BTreeSet::new();
        };
        let pairs = reals.into_iter().map(|it| match it.address.ip() {
            IpAddr::V4(four) => (four.octets()[3], it.server.weight),
            IpAddr::V6(six) => panic!("{six}"),
        });
        pairs.collect()
    }

    /// The sync daemons that run, with their numbers.
    pub(super) async fn sync(&self) -> Vec<(SyncRole, u8)> {
        let running = self.kernel.sync_daemons().await.unwrap();
        running.iter().map(|it| (it.role, it.sync_id)).collect()
    }

    /// The changes of the table since the last call.
    pub(super) fn changes(&self) -> Vec<Operation> {
        let is_table = |it: &Operation| {
            !matches!(
                it,
                Operation::SetTimeouts | Operation::StartSync(..) | Operation::StopSync(_)
            )
        };
        self.kernel
            .take_journal()
            .into_iter()
            .filter(is_table)
            .collect()
    }

    pub(super) fn says(&self, text: &str) -> bool {
        let entries = self.journal.after(0);
        entries
            .iter()
            .any(|it| it.decision.contains(text) || it.cause.contains(text))
    }

    pub(super) async fn seen(
        &mut self,
        what: impl FnMut(&Arc<ControlState>) -> bool,
    ) -> Arc<ControlState> {
        let found = timeout(Duration::from_secs(10), self.state.wait_for(what)).await;
        Arc::clone(&found.unwrap().unwrap())
    }
}
