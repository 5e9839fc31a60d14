//! A director that is not there, for tests: states as the parts publish them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::config::Settings;
use crate::config::loader;
use crate::health::{Health, Layer, LayerHealth, NodeHealth, Verdict};
use crate::ipvs::RealEntry;
use crate::journal::Journal;
use crate::model::{
    Counters, Family, Forwarding, KernelName, Load, Protocol, RealServer, Scheduling, SyncDaemon,
    SyncRole, Table, VirtualAddress, VirtualServer,
};
use crate::network::Snapshot;
use crate::plan::Change;
use crate::receiver::{Hush, ReceiverState};
use crate::source::{Node, Origin, Roster, Sighting, SourceState, Stance};
use crate::view::{
    ActualServer, ControlCounts, ControlState, Observed, RouterState, Standing, VrrpState,
};
use crate::vrrp::{Alarm, Cause, State};

/// The address that is served.
pub(crate) const VIP: &str = "192.0.2.10";

/// The writing ends, so that tests can change what is seen.
pub(crate) struct Scene {
    pub(crate) observed: Observed,
    pub(crate) roster: watch::Sender<Arc<Roster>>,
    pub(crate) control: watch::Sender<Arc<ControlState>>,
    pub(crate) receiver: watch::Sender<Arc<ReceiverState>>,
}

/// What the command line of the scene says, with more of it.
pub(crate) fn settings(more: &str) -> Settings {
    let text = "--role director,receiver --vip 192.0.2.10/24 --interface eth0 \
                --node 192.0.2.11 --node 192.0.2.12";
    let words = text.split_whitespace().chain(more.split_whitespace());
    let loaded = loader::load(words.map(str::to_owned), [], &[]);
    loaded.unwrap().settings
}

/// A master with two nodes: one that is up, and one that lost the virtual
/// address and is to get weight 0.
pub(crate) fn scene() -> Scene {
    let now = Instant::now();
    let ago = |seconds| now.checked_sub(Duration::from_secs(seconds)).unwrap();
    let (roster, seen_roster) = watch::channel(Arc::new(roster(&ago)));
    let (_, health) = watch::channel(Arc::new(health(&ago)));
    let (control, seen_control) = watch::channel(Arc::new(control(&ago)));
    let (_, vrrp) = watch::channel(Arc::new(vrrp(&ago)));
    let state = ReceiverState {
        device: "tidegate0".to_owned(),
        in_place: vec![VIP.parse().unwrap()],
        hushed_by: Some(Hush::Settings),
        repairs: 2,
        repaired: Some(ago(90)),
        trouble: None,
    };
    let (receiver, seen_receiver) = watch::channel(Arc::new(state));
    let (_, network) = watch::channel(Arc::new(Snapshot::default()));
    let journal = Journal::default();
    journal.record("vrrp", &"51", "became master", "the master fell silent");
    journal.record(
        "health",
        &"192.0.2.12",
        "impaired",
        "no answer on the address",
    );
    let observed = Observed {
        roster: seen_roster,
        health,
        control: seen_control,
        vrrp,
        receiver: seen_receiver,
        network,
        journal,
    };
    Scene {
        observed,
        roster,
        control,
        receiver,
    }
}

/// The node with this last byte.
pub(crate) fn node(last: u8) -> IpAddr {
    [192, 0, 2, last].into()
}

fn roster(ago: &impl Fn(u64) -> Instant) -> Roster {
    let sighting = |name: Option<&str>, seconds| Sighting {
        stance: Stance::Ready,
        name: name.map(str::to_owned),
        weight: None,
        seen: ago(seconds),
    };
    let first = BTreeMap::from([
        (Origin::Static, sighting(None, 60)),
        (Origin::Swarm, sighting(Some("pi-1"), 12)),
    ]);
    let second = BTreeMap::from([(Origin::Static, sighting(Some("pi\u{1b}[31m-2"), 60))]);
    let answered = |seconds, error: Option<&str>| SourceState {
        answered: Some(ago(seconds)),
        error: error.map(str::to_owned),
    };
    Roster {
        nodes: BTreeMap::from([
            (node(11), Node { sightings: first }),
            (node(12), Node { sightings: second }),
        ]),
        sources: BTreeMap::from([
            (Origin::Static, answered(60, None)),
            (Origin::Swarm, answered(12, Some("connection refused"))),
        ]),
    }
}

fn health(ago: &impl Fn(u64) -> Instant) -> Health {
    let layer = |is_up, reason: Option<&str>| LayerHealth {
        is_up: Some(is_up),
        streak: 3,
        reason: reason.map(str::to_owned),
        took: Some(Duration::from_millis(2)),
        asked: Some(ago(0)),
    };
    let through = Layer::Through(VIP.parse().unwrap());
    let of = |verdict, reason: &str, vip: LayerHealth| NodeHealth {
        verdict,
        reason: reason.to_owned(),
        since: Some(ago(7_500)),
        layers: BTreeMap::from([(Layer::Plain, layer(true, None)), (through, vip)]),
        held_until: None,
    };
    let lost = layer(false, Some("no answer in 1s"));
    let reason = "it answers, but not on the virtual address";
    Health {
        nodes: BTreeMap::from([
            (node(11), of(Verdict::Up, "it answers", layer(true, None))),
            (node(12), of(Verdict::Impaired, reason, lost)),
        ]),
        quorum_lost: false,
    }
}

fn actual() -> ActualServer {
    let counters = |connections| Counters {
        connections,
        incoming_bytes: 40 * connections,
        connection_rate: 7,
        ..Counters::default()
    };
    let entry = |last, active| RealEntry {
        address: (node(last), 443).into(),
        server: RealServer::new(Forwarding::DirectRouting, 100),
        load: Load {
            active,
            inactive: 5,
            persistent: 0,
        },
        counters: counters(500),
    };
    ActualServer {
        scheduling: Scheduling::by(KernelName::new("wlc").unwrap()),
        counters: counters(1000),
        real_servers: [entry(12, 3), entry(11, 40)].into(),
    }
}

fn control(ago: &impl Fn(u64) -> Instant) -> ControlState {
    let name = |text| KernelName::new(text).unwrap();
    let https = VirtualAddress::socket(Protocol::Tcp, (VIP.parse::<IpAddr>().unwrap(), 443).into());
    let mark = NonZeroU32::new(0x7d1e_0001).unwrap();
    let private = VirtualAddress::FirewallMark(Family::V4, mark);
    let real = |weight| RealServer::new(Forwarding::DirectRouting, weight);
    let mut wanted = VirtualServer::new(Scheduling::by(name("wlc")));
    wanted
        .real_servers
        .insert((node(11), 443).into(), real(100));
    wanted.real_servers.insert((node(12), 443).into(), real(0));
    let mut check = VirtualServer::new(Scheduling::by(name("rr")));
    check.real_servers.insert((node(11), 0).into(), real(1));
    let standing = |weight, why: &str| Standing {
        weight: Some(weight),
        why: why.to_owned(),
        left: None,
    };
    let change = Change::SetReal(https, (node(12), 443).into(), real(0));
    ControlState {
        desired: Arc::new(Table::from([(https, wanted), (private, check)])),
        actual: BTreeMap::from([(https, actual())]),
        pending: vec![change],
        is_serving: true,
        drained: BTreeSet::new(),
        standing: BTreeMap::from([
            (node(11), standing(100, "it is up")),
            (node(12), standing(0, "it lost the virtual address")),
        ]),
        alarm: None,
        marks: BTreeMap::from([(node(11), mark)]),
        replaced: BTreeMap::from([(name("mh"), name("wlc"))]),
        sync: vec![SyncDaemon::new(SyncRole::Master, name("eth0"), 51)],
        counts: ControlCounts {
            passes: 30,
            changes: 9,
            repairs: 1,
            refusals: 0,
            netlink_errors: 0,
        },
        settled: Some(ago(12)),
        took: Duration::from_micros(1500),
        trouble: None,
    }
}

fn vrrp(ago: &impl Fn(u64) -> Instant) -> VrrpState {
    let late = Duration::from_secs(2);
    let router = RouterState {
        vrid: 51,
        addresses: vec![VIP.parse().unwrap()],
        interface: KernelName::new("eth0").unwrap(),
        state: State::Master,
        cause: Some(Cause::MasterSilent),
        since: ago(200_000),
        priority: 100,
        master: None,
        is_holding: true,
        transitions: 2,
        takeover: Some(Duration::from_millis(3)),
        announcements: 5,
        sent: 48,
        received: 4,
        discarded: BTreeMap::from([("the checksum is wrong".to_owned(), 6)]),
        alarms: vec![(ago(30), Alarm::LostTime { late })],
    };
    VrrpState {
        routers: vec![router],
    }
}

#[test]
fn the_page_has_what_the_parts_publish() {
    let scene = scene();
    let page = super::render(&scene.observed, Instant::now(), "gorb_own 1");
    let expected = [
        "tidegate_director_build_info{version=\"0.1.0\"} 1\n",
        "tidegate_director_virtual_server_connections_total{virtual_server=\"tcp 192.0.2.10:443\"} 1000\n",
        "tidegate_director_real_server_incoming_bytes_total{virtual_server=\"tcp 192.0.2.10:443\",real_server=\"192.0.2.11:443\"} 20000\n",
        "tidegate_director_real_server_weight{virtual_server=\"tcp 192.0.2.10:443\",real_server=\"192.0.2.12:443\"} 100\n",
        "tidegate_director_real_server_desired_weight{virtual_server=\"tcp 192.0.2.10:443\",real_server=\"192.0.2.12:443\"} 0\n",
        "tidegate_director_real_server_active_connections{virtual_server=\"tcp 192.0.2.10:443\",real_server=\"192.0.2.11:443\"} 40\n",
        "tidegate_director_node_verdict{node=\"192.0.2.12\",verdict=\"impaired\"} 1\n",
        "tidegate_director_node_verdict{node=\"192.0.2.12\",verdict=\"up\"} 0\n",
        "tidegate_director_node_layer_up{node=\"192.0.2.12\",layer=\"plain\",vip=\"\"} 1\n",
        "tidegate_director_node_layer_up{node=\"192.0.2.12\",layer=\"through\",vip=\"192.0.2.10\"} 0\n",
        "tidegate_director_node_check_seconds{node=\"192.0.2.11\",layer=\"plain\",vip=\"\"} 0.002\n",
        "tidegate_director_reconcile_passes_total 30\n",
        "tidegate_director_reconcile_repairs_total 1\n",
        "tidegate_director_reconcile_duration_seconds 0.0015\n",
        "tidegate_director_pending_changes 1\n",
        "tidegate_director_serving 1\n",
        "tidegate_director_sync_daemon{role=\"master\",interface=\"eth0\",sync_id=\"51\"} 1\n",
        "tidegate_director_scheduler_replaced{wanted=\"mh\",used=\"wlc\"} 1\n",
        "tidegate_director_vrrp_state{vrid=\"51\",family=\"ipv4\",state=\"master\"} 1\n",
        "tidegate_director_vrrp_takeover_seconds{vrid=\"51\",family=\"ipv4\"} 0.003\n",
        "tidegate_director_vrrp_discarded_total{vrid=\"51\",family=\"ipv4\",reason=\"the checksum is wrong\"} 6\n",
        "tidegate_director_discovery_failing{source=\"swarm\"} 1\n",
        "tidegate_director_discovery_nodes{source=\"static\"} 2\n",
        "tidegate_director_discovery_stale_seconds{source=\"static\"} 6",
        "tidegate_director_receiver_repairs_total 2\n",
        "tidegate_director_receiver_in_place{vip=\"192.0.2.10\"} 1\n",
        "process_open_fds ",
        "\ngorb_own 1\n",
    ];
    for line in expected {
        assert!(page.contains(line), "{line} is not in\n{page}");
    }
    // Checks' own virtual servers are nobody's traffic.
    assert!(!page.contains("virtual_server=\"mark"), "{page}");
}

#[test]
fn a_page_stays_small_whatever_the_table_is() {
    let scene = scene();
    scene.control.send_modify(|control| {
        let server = Arc::make_mut(control).actual.values_mut().next().unwrap();
        let entry = server.real_servers[0].clone();
        server.real_servers = vec![entry; 10_001].into();
    });
    let page = super::render(&scene.observed, Instant::now(), "");
    assert!(page.contains("tidegate_director_real_servers 10001\n"));
    assert!(page.contains("virtual_server_connections_total{"));
    assert!(!page.contains("real_server=\"") && page.len() < 20_000);
}

/// Every line is a comment or a sample of the family whose head came last, and
/// no family comes twice.
#[test]
fn the_page_is_well_formed() {
    let page = super::render(&scene().observed, Instant::now(), "");
    let mut families = BTreeSet::new();
    let mut current = "";
    for line in page.lines() {
        if let Some(head) = line.strip_prefix("# HELP ") {
            current = head.split(' ').next().unwrap();
            assert!(families.insert(current), "{current} comes twice");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(name, current);
            let is_total = name.ends_with("_total");
            assert_eq!(kind == "counter", is_total, "{name} is a {kind}");
        } else {
            let end = line.find(['{', ' ']).unwrap();
            assert_eq!(&line[..end], current);
            let (_, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().unwrap();
        }
    }
    assert!(families.len() > 40, "{families:?}");
}
