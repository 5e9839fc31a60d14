//! A receiver speaks, a director's whole source hears it.

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use tidegate_shared::shutdown::{Stage, Trigger, channel};
use tokio::sync::watch;
use tokio::time::timeout;

use super::super::report;
use crate::config::loader::load;
use crate::config::{Secret, Settings};
use crate::journal::Journal;
use crate::network::{Interface, InterfaceAddress, Snapshot};
use crate::receiver::{Hush, ReceiverState};
use crate::source::{Origin, Roster, Stance};

fn ip(last: u8) -> IpAddr {
    [192, 0, 2, last].into()
}

/// A machine whose address on the clients' network is 192.0.2.`last`.
fn network(last: u8) -> Snapshot {
    let interface = Interface {
        index: 1,
        name: "eth0".parse().unwrap(),
        hardware: None,
        is_running: true,
        is_up: true,
        mtu: 1500,
        is_loopback: false,
        is_dummy: false,
        addresses: vec![InterfaceAddress {
            address: ip(last),
            prefix: 24,
            is_tentative: false,
        }],
    };
    Snapshot {
        interfaces: vec![interface],
        gateways: Vec::new(),
    }
}

fn settings(port: u16, key: Option<&str>) -> Settings {
    let line = "--vip 192.0.2.10/24 --node 192.0.2.11 --heartbeat --director-address 127.0.0.1";
    let args = line.split_whitespace().map(str::to_owned);
    let mut settings = load(args, [], &[]).unwrap().settings;
    settings.sources.heartbeat.port = port;
    settings.sources.heartbeat.interval = Duration::from_millis(50);
    settings.sources.heartbeat.key = key.map(|it| Secret(it.into()));
    settings.roles.director = false;
    settings
}

fn free_port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

struct Director {
    roster: watch::Receiver<Arc<Roster>>,
    journal: Journal,
    _trigger: Trigger,
}

impl Director {
    fn start(settings: &Settings) -> Self {
        let (sender, roster) = watch::channel(Arc::default());
        let (trigger, shutdown) = channel();
        let journal = Journal::default();
        let (settings, written) = (Arc::new(settings.clone()), journal.clone());
        tokio::spawn(async move {
            let (_network, network) = watch::channel(Arc::new(Snapshot::default()));
            crate::source::run(settings, network, sender, written, shutdown).await;
        });
        Self {
            roster,
            journal,
            _trigger: trigger,
        }
    }

    async fn until(&mut self, is_it: impl Fn(&Roster) -> bool) -> Arc<Roster> {
        let found = self.roster.wait_for(|roster| is_it(roster));
        let found = timeout(Duration::from_secs(20), found).await;
        Arc::clone(&found.expect("it comes").expect("the director runs"))
    }
}

struct Receiver {
    state: watch::Sender<Arc<ReceiverState>>,
    _network: watch::Sender<Arc<Snapshot>>,
    trigger: Trigger,
}

impl Receiver {
    fn start(settings: Settings, last: u8) -> Self {
        let (network, links) = watch::channel(Arc::new(network(last)));
        let (state, receiving) = watch::channel(Arc::new(in_place(vec![ip(10)])));
        let (trigger, shutdown) = channel();
        tokio::spawn(report(Arc::new(settings), receiving, links, shutdown));
        Self {
            state,
            _network: network,
            trigger,
        }
    }
}

fn in_place(in_place: Vec<IpAddr>) -> ReceiverState {
    ReceiverState {
        in_place,
        hushed_by: Some(Hush::Settings),
        ..ReceiverState::default()
    }
}

fn stance(roster: &Roster, last: u8) -> Option<Stance> {
    let sighting = roster
        .nodes
        .get(&ip(last))?
        .sightings
        .get(&Origin::Heartbeat)?;
    Some(sighting.stance)
}

#[tokio::test]
async fn a_node_names_itself_and_leaves() {
    let settings = settings(free_port(), Some("a key"));
    let mut director = Director::start(&settings);
    let receiver = Receiver::start(settings, 12);
    director
        .until(|it| stance(it, 12) == Some(Stance::Ready))
        .await;
    director.until(Roster::is_complete).await;
    receiver.state.send_replace(Arc::new(in_place(Vec::new())));
    director
        .until(|it| stance(it, 12) == Some(Stance::Down))
        .await;
    receiver
        .state
        .send_replace(Arc::new(in_place(vec![ip(10)])));
    director
        .until(|it| stance(it, 12) == Some(Stance::Ready))
        .await;
    receiver.trigger.advance(Stage::Draining);
    director
        .until(|it| stance(it, 12) == Some(Stance::Draining))
        .await;
    let causes = director.journal.after(0).into_iter().map(|it| it.cause);
    let causes: Vec<_> = causes.filter(|it| it.starts_with("heartbeats")).collect();
    assert_eq!(
        causes,
        [
            "heartbeats: it says so itself",
            "heartbeats: it says that it lacks 192.0.2.10",
            "heartbeats: it says so itself",
            "heartbeats: it says that it leaves",
        ]
    );
}

#[tokio::test]
async fn without_a_key_only_named_nodes_are_hinted_at() {
    let settings = settings(free_port(), None);
    let mut director = Director::start(&settings);
    let _stranger = Receiver::start(settings.clone(), 12);
    let named = Receiver::start(settings, 11);
    let roster = director
        .until(|it| stance(it, 11) == Some(Stance::Ready))
        .await;
    assert_eq!(roster.nodes.len(), 1);
    named.trigger.advance(Stage::Draining);
    let roster = director
        .until(|it| stance(it, 11) == Some(Stance::Down))
        .await;
    assert_eq!(roster.nodes.len(), 1, "a stranger stays one");
}

/// Run it so: `ip netns exec NAME PROGRAM the_links_groups --ignored`,
/// where `NAME` has an interface of 192.0.2.12/24 and 2001:db8::12/64 (nodad).
#[tokio::test]
#[ignore = "needs a network namespace with a link of its own"]
async fn the_links_groups_carry_it() {
    let (_links, network) = crate::network::Links::open().await.unwrap();
    for vip in ["192.0.2.10/24", "2001:db8::10/64"] {
        let mut settings = settings(free_port(), Some("a key"));
        settings.vips = vec![vip.parse().unwrap()];
        settings.sources.heartbeat.directors.clear();
        let (sender, mut roster) = watch::channel(Arc::<Roster>::default());
        let (_running, shutdown) = channel();
        let (_state, receiving) = watch::channel(Arc::default());
        let settings = Arc::new(settings);
        let of = (Arc::clone(&settings), network.clone());
        let journal = Journal::default();
        tokio::spawn(crate::source::run(
            of.0,
            of.1,
            sender,
            journal,
            shutdown.clone(),
        ));
        tokio::spawn(report(settings, receiving, network.clone(), shutdown));
        let heard = roster.wait_for(|roster| roster.nodes.len() == 2);
        let heard = timeout(Duration::from_secs(10), heard).await;
        println!("{:?}", heard.expect("it is heard").expect("it runs"));
    }
}

#[tokio::test]
async fn a_wrong_key_is_told_once() {
    let port = free_port();
    let mut director = Director::start(&settings(port, Some("one")));
    let _receiver = Receiver::start(settings(port, Some("other")), 12);
    let told = |it: &Director| {
        let entries = it.journal.after(0);
        entries
            .iter()
            .filter(|it| it.cause.contains("signature"))
            .count()
    };
    let mut news = director.journal.listen();
    let heard = async {
        while told(&director) == 0 {
            let _ = news.recv().await;
        }
    };
    timeout(Duration::from_secs(20), heard)
        .await
        .expect("it is told");
    let roster = director.until(Roster::is_complete).await;
    assert_eq!(roster.nodes.len(), 1, "the list's node alone");
    assert_eq!(told(&director), 1);
}

#[tokio::test]
async fn a_port_in_use_is_reported_and_tried_again() {
    let holder = UdpSocket::bind("0.0.0.0:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    let settings = settings(port, Some("a key"));
    let mut director = Director::start(&settings);
    let error = |it: &Roster| it.sources.get(&Origin::Heartbeat)?.error.clone();
    let roster = director.until(|it| error(it).is_some()).await;
    assert!(
        error(&roster)
            .unwrap()
            .contains(&format!("UDP port {port}"))
    );
    assert!(!roster.is_complete());
    drop(holder);
    director.until(Roster::is_complete).await;
}
