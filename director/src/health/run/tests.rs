//! The whole loop against listeners on loopback addresses, which are its nodes.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};

use tidegate_shared::shutdown;

use super::*;
use crate::config::CheckKind;
use crate::network::{Interface, InterfaceAddress};
use crate::source::{Node, Origin, Sighting};

const FIRST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
const VIP: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 1);

fn roster(nodes: &[(Ipv4Addr, Stance)]) -> Arc<Roster> {
    let node = |(address, stance): &(Ipv4Addr, Stance)| {
        let sighting = Sighting {
            stance: *stance,
            name: None,
            weight: None,
            seen: now(),
        };
        let sightings = BTreeMap::from([(Origin::Static, sighting)]);
        (IpAddr::from(*address), Node { sightings })
    };
    Arc::new(Roster {
        nodes: nodes.iter().map(node).collect(),
        sources: BTreeMap::new(),
    })
}

fn network(is_running: bool) -> Arc<Snapshot> {
    let address = InterfaceAddress {
        address: Ipv4Addr::LOCALHOST.into(),
        prefix: 8,
        is_tentative: false,
    };
    let interface = Interface {
        index: 1,
        name: KernelName::new("lo").unwrap(),
        hardware: None,
        is_running,
        is_up: true,
        mtu: 65536,
        is_loopback: true,
        is_dummy: false,
        addresses: vec![address],
    };
    Arc::new(Snapshot {
        interfaces: vec![interface],
        gateways: Vec::new(),
    })
}

/// A running loop, and the ends of its channels.
struct Stage {
    roster: watch::Sender<Arc<Roster>>,
    marks: watch::Sender<Arc<Marks>>,
    network: watch::Sender<Arc<Snapshot>>,
    masters: watch::Sender<Arc<BTreeSet<IpAddr>>>,
    health: watch::Receiver<Arc<Health>>,
    journal: Journal,
    trigger: shutdown::Trigger,
    loop_: tokio::task::JoinHandle<()>,
}

impl Stage {
    fn new(kind: Option<CheckKind>, port: u16, quorum: u32) -> Self {
        let check = CheckSettings {
            kind,
            port,
            path: "/ping".to_owned(),
            host: None,
            expect: vec![200..=200],
            interval: Duration::from_millis(100),
            timeout: Duration::from_millis(300),
            rise: 2,
            fall: 3,
            through_vip: true,
            quorum,
        };
        let vip = Vip {
            address: VIP.into(),
            prefix: 32,
        };
        let checking = Checking {
            check,
            vips: vec![vip],
            interface: None,
            forwarding: Forwarding::DirectRouting,
        };
        let ready = [(FIRST, Stance::Ready), (SECOND, Stance::Ready)];
        let (roster, roster_seen) = watch::channel(roster(&ready));
        let (marks, marks_seen) = watch::channel(Arc::default());
        let (network, network_seen) = watch::channel(network(true));
        let (masters, masters_seen) = watch::channel(Arc::default());
        let (state, health) = watch::channel(Arc::default());
        let (trigger, end) = shutdown::channel();
        let journal = Journal::default();
        let watched = Watched {
            roster: roster_seen,
            marks: marks_seen,
            network: network_seen,
            masters: masters_seen,
        };
        let loop_ = tokio::spawn(run(checking, watched, state, journal.clone(), end));
        Self {
            roster,
            marks,
            network,
            masters,
            health,
            journal,
            trigger,
            loop_,
        }
    }

    async fn until(&mut self, what: &str, is_so: impl Fn(&Health) -> bool) {
        let health = self.health.wait_for(|health| is_so(health));
        let in_time = tokio::time::timeout(Duration::from_secs(20), health).await;
        assert!(in_time.is_ok_and(|health| health.is_ok()), "never: {what}");
    }

    async fn until_verdicts(&mut self, first: Verdict, second: Verdict) {
        let is_so = move |health: &Health| {
            verdict(health, FIRST) == first && verdict(health, SECOND) == second
        };
        self.until(&format!("{first:?} {second:?}"), is_so).await;
    }
}

fn verdict(health: &Health, node: Ipv4Addr) -> Verdict {
    let node = health.nodes.get(&IpAddr::from(node));
    node.map(|node| node.verdict).unwrap_or_default()
}

/// Listeners at the same port of both nodes.
fn listeners() -> (TcpListener, TcpListener, u16) {
    for _ in 0..50 {
        let first = TcpListener::bind((FIRST, 0)).unwrap();
        let port = first.local_addr().unwrap().port();
        if let Ok(second) = TcpListener::bind((SECOND, port)) {
            return (first, second, port);
        }
    }
    panic!("no port is free on both");
}

#[tokio::test]
async fn verdicts_are_published_with_their_reasons() {
    let (_first, second, port) = listeners();
    let mut stage = Stage::new(Some(CheckKind::Tcp), port, 1);
    stage.until_verdicts(Verdict::Up, Verdict::Up).await;
    drop(second);
    stage.until_verdicts(Verdict::Up, Verdict::Dead).await;
    let health = Arc::clone(&stage.health.borrow());
    let node = &health.nodes[&IpAddr::from(SECOND)];
    assert!(node.reason.contains("refuses"), "{}", node.reason);
    assert_eq!(node.layers.keys().collect::<Vec<_>>(), [&Layer::Plain]);
    let _second = TcpListener::bind((SECOND, port)).unwrap();
    stage.until_verdicts(Verdict::Up, Verdict::Up).await;
    stage.roster.send_replace(roster(&[(FIRST, Stance::Ready)]));
    stage
        .until("one node", |health| health.nodes.len() == 1)
        .await;
    let told: Vec<_> = stage
        .journal
        .after(0)
        .into_iter()
        .map(|it| it.decision)
        .collect();
    assert_eq!(
        told.iter().filter(|it| *it == "Counts as up").count(),
        3,
        "{told:?}"
    );
    assert_eq!(
        told.iter().filter(|it| *it == "Counts as dead").count(),
        1,
        "{told:?}"
    );
    stage.trigger.request();
    stage.loop_.await.unwrap();
}

#[tokio::test]
async fn the_last_set_is_kept_and_an_alarm_raised() {
    let (first, second, port) = listeners();
    let mut stage = Stage::new(Some(CheckKind::Tcp), port, 1);
    stage.until_verdicts(Verdict::Up, Verdict::Up).await;
    drop((first, second));
    stage.until("an alarm", |health| health.quorum_lost).await;
    stage.until_verdicts(Verdict::Up, Verdict::Up).await;
    let _first = TcpListener::bind((FIRST, port)).unwrap();
    stage
        .until("the end of the alarm", |health| !health.quorum_lost)
        .await;
    stage.until_verdicts(Verdict::Up, Verdict::Dead).await;
    let told = stage.journal.after(0);
    let alarms = told.iter().filter(|it| it.subject == "quorum");
    assert_eq!(alarms.count(), 2, "{told:?}");
}

#[tokio::test]
async fn without_a_link_nobody_is_judged() {
    let (_first, second, port) = listeners();
    let mut stage = Stage::new(Some(CheckKind::Tcp), port, 0);
    stage.until_verdicts(Verdict::Up, Verdict::Up).await;
    let mut news = stage.journal.listen();
    stage.network.send_replace(network(false));
    assert_eq!(news.recv().await.unwrap().subject, "lo");
    drop(second);
    // What would take three rounds is waited for ten.
    let change = stage
        .health
        .wait_for(|health| verdict(health, SECOND) != Verdict::Up);
    let is_none = tokio::time::timeout(Duration::from_secs(1), change)
        .await
        .is_err();
    assert!(is_none, "a node was judged");
    stage.network.send_replace(network(true));
    stage.until_verdicts(Verdict::Up, Verdict::Dead).await;
}

/// A mark needs a privilege: with it the mark leads nowhere here and the
/// virtual address is a loopback one like any other; without it nothing is said.
#[tokio::test]
async fn marks_add_the_way_through_the_virtual_address() {
    let (_first, _second, port) = listeners();
    let _vip = TcpListener::bind((VIP, port)).unwrap();
    let mut stage = Stage::new(Some(CheckKind::Tcp), port, 1);
    stage.until_verdicts(Verdict::Up, Verdict::Up).await;
    let mark = NonZeroU32::new(0x7d1e_0001).unwrap();
    let marks = Marks::from([(IpAddr::from(FIRST), mark)]);
    stage.marks.send_replace(Arc::new(marks));
    let asked = |health: &Health| {
        let node = &health.nodes[&IpAddr::from(FIRST)];
        let layer = node.layers.get(&Layer::Through(VIP.into()));
        layer.is_some_and(|layer| layer.asked.is_some())
    };
    stage.until("a marked question", asked).await;
    stage.until_verdicts(Verdict::Up, Verdict::Up).await;
    let health = Arc::clone(&stage.health.borrow());
    assert_eq!(health.nodes[&IpAddr::from(SECOND)].layers.len(), 1);

    // It would pass the question on now.
    let masters = BTreeSet::from([IpAddr::from(FIRST)]);
    stage.masters.send_replace(Arc::new(masters));
    let is_plain = |health: &Health| health.nodes[&IpAddr::from(FIRST)].layers.len() == 1;
    stage.until("its own address only", is_plain).await;
    stage.until_verdicts(Verdict::Up, Verdict::Up).await;
}

#[tokio::test]
async fn without_checks_every_node_is_up() {
    let mut stage = Stage::new(None, 1, 1);
    stage.until_verdicts(Verdict::Up, Verdict::Up).await;
    stage.roster.send_replace(roster(&[(SECOND, Stance::Down)]));
    stage.until_verdicts(Verdict::Unknown, Verdict::Up).await;
    stage.trigger.request();
    stage.loop_.await.unwrap();
}
