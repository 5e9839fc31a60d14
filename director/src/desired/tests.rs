//! Tables by hand: who is in, with which weight, and why.

use std::time::Duration;

use super::*;
use crate::config::loader::load;
use crate::health::{NodeHealth, Verdict};
use crate::source::{Node, Origin, Sighting, SourceState, Stance};

/// The settings that these flags make.
pub(crate) fn settings(flags: &str) -> Settings {
    let flags = flags.split_whitespace().map(str::to_owned);
    load(flags, [], &[]).unwrap().settings
}

const USUAL: &str = "--vip 192.0.2.1/24 --port 443 --node 10.0.0.1";

fn ip(number: u8) -> IpAddr {
    [10, 0, 0, number].into()
}

fn web() -> VirtualAddress {
    VirtualAddress::socket(Protocol::Tcp, "192.0.2.1:443".parse().unwrap())
}

/// All that is put in; a test changes what it is about.
struct Case {
    settings: Settings,
    roster: Roster,
    health: Health,
    drained: BTreeSet<IpAddr>,
    registered: Arc<Table>,
    adopted: Table,
    busy: BTreeSet<IpAddr>,
    serving: Duty,
    now: Instant,
    last: Desired,
}

impl Case {
    fn new(flags: &str) -> Self {
        let answered = SourceState {
            answered: Some(Instant::now()),
            error: None,
        };
        Self {
            settings: settings(flags),
            roster: Roster {
                nodes: BTreeMap::new(),
                sources: BTreeMap::from([(Origin::Static, answered)]),
            },
            health: Health::default(),
            drained: BTreeSet::new(),
            registered: Arc::default(),
            adopted: Table::new(),
            busy: BTreeSet::new(),
            serving: Duty::new(&settings(flags), Serving::Yes),
            now: Instant::now(),
            last: Desired::default(),
        }
    }

    fn serves(&mut self, serving: Serving) {
        self.serving = Duty::new(&self.settings, serving);
    }

    fn node(&mut self, address: IpAddr, verdict: Verdict) {
        self.roster.nodes.insert(address, Node::default());
        self.sight(address, Origin::Static, Stance::Ready, None);
        self.judge(address, verdict);
    }

    fn sight(&mut self, address: IpAddr, origin: Origin, stance: Stance, weight: Option<u32>) {
        let sighting = Sighting {
            stance,
            name: None,
            weight,
            seen: self.now,
        };
        let node = self.roster.nodes.get_mut(&address).unwrap();
        node.sightings.insert(origin, sighting);
    }

    fn judge(&mut self, address: IpAddr, verdict: Verdict) {
        let health = NodeHealth {
            verdict,
            reason: format!("it is {verdict:?}"),
            ..NodeHealth::default()
        };
        self.health.nodes.insert(address, health);
    }

    fn next(&mut self) -> Desired {
        let inputs = Inputs {
            settings: &self.settings,
            roster: &self.roster,
            health: &self.health,
            drained: &self.drained,
            registered: &self.registered,
            adopted: &self.adopted,
            busy: &self.busy,
            serving: self.serving,
            now: self.now,
        };
        self.last = desire(&inputs, &self.last);
        self.last.clone()
    }

    /// The weights behind the virtual server, by the last number of the address.
    fn weights(&mut self) -> Vec<(u8, u32)> {
        let desired = self.next();
        let reals = desired.table[&web()].real_servers.iter();
        reals
            .map(|(real, it)| match real.ip() {
                IpAddr::V4(four) => (four.octets()[3], it.weight),
                IpAddr::V6(_) => panic!("{real}"),
            })
            .collect()
    }
}

#[test]
fn a_verdict_makes_a_weight() {
    use Verdict::{Dead, Impaired, Unknown, Up};
    let rows: &[(&[Verdict], Option<u32>)] = &[
        (&[Up], Some(100)),
        (&[Unknown], None),
        (&[Up, Unknown], Some(100)),
        (&[Impaired], Some(0)),
        (&[Up, Impaired], Some(0)),
        (&[Up, Impaired, Unknown], Some(0)),
        (&[Up, Dead], None),
        (&[Up, Dead, Unknown], None),
        (&[Up, Dead, Up], Some(100)),
    ];
    for (verdicts, expected) in rows {
        let mut case = Case::new(USUAL);
        case.node(ip(9), Up);
        let mut weights = Vec::new();
        for verdict in *verdicts {
            case.node(ip(1), *verdict);
            weights = case.weights();
        }
        let found = weights.iter().find(|(number, _)| *number == 1);
        assert_eq!(found.map(|(_, weight)| *weight), *expected, "{verdicts:?}");
    }
}

#[test]
fn a_node_that_is_said_to_be_down_is_not_removed_for_that() {
    let mut case = Case::new(USUAL);
    case.node(ip(1), Verdict::Up);
    case.sight(ip(1), Origin::Swarm, Stance::Down, None);
    assert_eq!(case.weights(), [(1, 100)]);
    case.sight(ip(1), Origin::Heartbeat, Stance::Draining, None);
    assert_eq!(case.weights(), [(1, 0)]);
    assert_eq!(case.last.standing[&ip(1)].why, "the node itself drains it");
}

#[test]
fn weights_follow_the_nodes_but_not_where_a_hash_decides() {
    for (flags, rows) in [
        ("", [(50, 50), (100, 100), (250, 250), (0, 1)]),
        (" --weight 10", [(50, 5), (100, 10), (250, 25), (1, 1)]),
        (" --weight 1", [(50, 1), (100, 1), (250, 1), (0, 1)]),
    ] {
        let mut case = Case::new(&format!("{USUAL}{flags}"));
        for (own, weight) in rows {
            case.node(ip(1), Verdict::Up);
            case.sight(ip(1), Origin::Heartbeat, Stance::Ready, Some(own));
            assert_eq!(case.weights(), [(1, weight)], "{flags} {own}");
        }
    }
}

/// Failure mode 5.
#[test]
fn when_all_look_bad_the_last_set_stays_and_an_alarm_is_raised() {
    let mut case = Case::new(USUAL);
    for number in 1..=3 {
        case.node(ip(number), Verdict::Up);
    }
    case.drained.insert(ip(3));
    assert_eq!(case.weights(), [(1, 100), (2, 100), (3, 0)]);
    case.node(ip(1), Verdict::Dead);
    assert_eq!(case.weights(), [(2, 100), (3, 0)]);
    case.node(ip(2), Verdict::Dead);
    case.node(ip(3), Verdict::Dead);
    for _ in 0..3 {
        assert_eq!(case.weights(), [(2, 100)]);
        assert!(case.last.alarm.is_some());
    }
    assert!(case.last.standing[&ip(2)].why.contains("it is Dead"));
    case.node(ip(1), Verdict::Up);
    assert_eq!(case.weights(), [(1, 100)]);
    assert_eq!(case.last.alarm, None);
}

#[test]
fn a_lost_quorum_is_an_alarm() {
    let mut case = Case::new(USUAL);
    case.node(ip(1), Verdict::Up);
    case.health.quorum_lost = true;
    assert_eq!(case.weights(), [(1, 100)]);
    assert!(case.last.alarm.is_some());
}

/// Failure mode 18.
#[test]
fn sources_that_fail_or_have_not_answered_remove_nobody() {
    let mut case = Case::new(USUAL);
    case.node(ip(1), Verdict::Up);
    case.node(ip(2), Verdict::Up);
    assert_eq!(case.weights(), [(1, 100), (2, 100)]);
    let silent = SourceState::default();
    case.roster.sources.insert(Origin::Swarm, silent);
    case.roster.nodes.remove(&ip(2));
    assert_eq!(case.weights(), [(1, 100), (2, 100)]);
    case.drained.insert(ip(2));
    assert_eq!(case.weights(), [(1, 100), (2, 0)]);
    case.drained.clear();
    let failed = SourceState {
        answered: Some(case.now),
        error: Some("no route to the manager".to_owned()),
    };
    case.roster.sources.insert(Origin::Swarm, failed);
    // It does answer for somebody, so it is believed.
    assert_eq!(case.weights(), [(1, 100)]);
    case.roster.nodes.clear();
    assert_eq!(case.weights(), [(1, 100)]);
    case.roster.sources.remove(&Origin::Swarm);
    assert_eq!(case.weights(), []);
}

#[test]
fn a_drained_node_that_is_forgotten_ends_its_connections_first() {
    let mut case = Case::new(USUAL);
    case.node(ip(1), Verdict::Up);
    case.node(ip(2), Verdict::Up);
    case.sight(ip(1), Origin::Heartbeat, Stance::Draining, None);
    assert_eq!(case.weights(), [(1, 0), (2, 100)]);
    case.roster.nodes.remove(&ip(1));
    case.busy.insert(ip(1));
    for _ in 0..2 {
        case.now += Duration::from_secs(29);
        assert_eq!(case.weights(), [(1, 0), (2, 100)]);
    }
    let held = case.last.clone();
    case.busy.clear();
    assert_eq!(case.weights(), [(2, 100)]);
    case.last = held;
    case.busy.insert(ip(1));
    case.now += Duration::from_secs(40);
    assert_eq!(case.weights(), [(2, 100)]);
}

#[test]
fn each_family_has_its_own_nodes_and_no_virtual_address_is_one() {
    let mut case = Case::new(
        "--vip 192.0.2.1/24 --vip 2001:db8::1/64 --port 443,443/udp --node 10.0.0.1 \
         --persistence 60s",
    );
    let six: IpAddr = "2001:db8::9".parse().unwrap();
    let vip: IpAddr = [192, 0, 2, 1].into();
    for node in [ip(1), six, vip] {
        case.node(node, Verdict::Up);
    }
    let desired = case.next();
    let reals: BTreeMap<_, Vec<_>> = desired
        .table
        .iter()
        .map(|(address, it)| (address.to_string(), it.real_servers.keys().collect()))
        .collect();
    assert_eq!(desired.table.len(), 6, "{reals:?}");
    for protocol in ["tcp", "udp"] {
        let four: SocketAddr = "10.0.0.1:443".parse().unwrap();
        let six = SocketAddr::new(six, 443);
        assert_eq!(reals[&format!("{protocol} 192.0.2.1:443")], [&four]);
        assert_eq!(reals[&format!("{protocol} [2001:db8::1]:443")], [&six]);
    }
    let prefixes: BTreeSet<_> = desired
        .table
        .iter()
        .filter_map(|(address, it)| Some((address.family(), it.scheduling.persistence?.prefix)))
        .collect();
    assert_eq!(
        prefixes,
        BTreeSet::from([(Family::V4, 32), (Family::V6, 128)])
    );
    let nodes: Vec<_> = desired.marks.keys().copied().collect();
    assert_eq!(nodes, [ip(1), six]);
}

/// Failure mode 17: there is no table on a standby that could send anything on,
/// and yet every node can be checked.
#[test]
fn a_standby_holds_private_virtual_servers_only() {
    let mut case = Case::new(USUAL);
    case.node(ip(1), Verdict::Up);
    case.serves(Serving::No);
    let desired = case.next();
    assert_eq!(desired.table.len(), 1);
    let (address, server) = desired.table.first_key_value().unwrap();
    let mark = desired.marks[&ip(1)];
    assert_eq!(*address, VirtualAddress::FirewallMark(Family::V4, mark));
    assert_eq!(server.scheduling.scheduler.as_str(), "rr");
    let reals: Vec<_> = server.real_servers.keys().copied().collect();
    assert_eq!(reals, [SocketAddr::new(ip(1), 0)]);
    assert_eq!(desired.standing[&ip(1)].weight, Some(100));
    case.serves(Serving::Yes);
    assert_eq!(case.weights(), [(1, 100)]);
}

/// The families have elections of their own: two directors that each hold one of
/// them must not have the other's table, or they could send a packet round.
#[test]
fn each_family_is_served_by_itself() {
    let flags = format!("{USUAL} --vip fd00::1/64 --node fd00::11");
    let mut case = Case::new(&flags);
    case.node(ip(1), Verdict::Up);
    case.node("fd00::11".parse().unwrap(), Verdict::Up);
    case.serving.set(Family::V4, Serving::No);
    let table = case.next().table;
    let shown: Vec<_> = table.keys().filter_map(VirtualAddress::ip).collect();
    assert_eq!(shown, ["fd00::1".parse::<IpAddr>().unwrap()]);
    assert!(!case.serving.is_standby());
    case.serving.set(Family::V6, Serving::No);
    assert!(case.serving.is_standby());
    assert!(case.next().table.keys().all(|it| it.ip().is_none()));
}

#[test]
fn an_undecided_director_keeps_what_was_there() {
    let mut case = Case::new(USUAL);
    case.node(ip(1), Verdict::Dead);
    case.node(ip(2), Verdict::Up);
    let real = RealServer::new(crate::model::Forwarding::DirectRouting, 7);
    let left = VirtualServer {
        real_servers: BTreeMap::from([(SocketAddr::new(ip(1), 443), real)]),
        ..VirtualServer::new(Scheduling::by(KernelName::new("sh").unwrap()))
    };
    let (private, server) =
        private_server(&case.settings, ip(1), NonZeroU32::new(0x7d1e_0042).unwrap());
    case.adopted = Table::from([(web(), left.clone()), (private, server)]);
    case.serves(Serving::Undecided);
    case.last = Desired::adopt(&case.settings, &case.adopted);
    assert_eq!(case.last.standing[&ip(1)].weight, Some(7));
    let desired = case.next();
    assert_eq!(desired.table[&web()], left);
    assert_eq!(desired.marks[&ip(1)].get(), 0x7d1e_0042);
    case.serves(Serving::Yes);
    assert_eq!(case.weights(), [(2, 100)]);
}

#[test]
fn a_mark_stays_its_nodes() {
    let mut case = Case::new(USUAL);
    // Enough to meet each other: by chance some 120 pairs of 4,000 nodes do.
    let nodes: Vec<IpAddr> = (0..4_000_u16)
        .map(|number| {
            let [high, low] = number.to_be_bytes();
            [10, 1, high, low].into()
        })
        .collect();
    for node in &nodes {
        case.node(*node, Verdict::Unknown);
    }
    let before = case.next().marks;
    let distinct: BTreeSet<_> = before.values().collect();
    assert_eq!((before.len(), distinct.len()), (4_000, 4_000));
    assert!(before.values().all(|it| MARKS.contains(&it.get())));
    for node in nodes.iter().step_by(2) {
        case.roster.nodes.remove(node);
    }
    let after = case.next().marks;
    assert_eq!(after.len(), 2_000);
    assert!(after.iter().all(|(node, mark)| before[node] == *mark));
}

/// A virtual server by order of the API, on an address of its own.
fn registered() -> (VirtualAddress, VirtualServer) {
    let elsewhere = VirtualAddress::socket(Protocol::Tcp, "10.0.0.77:80".parse().unwrap());
    let real = RealServer::new(crate::model::Forwarding::Masquerade, 3);
    let server = VirtualServer {
        real_servers: BTreeMap::from([(SocketAddr::new(ip(5), 81), real)]),
        ..VirtualServer::new(Scheduling::by(KernelName::new("wrr").unwrap()))
    };
    (elsewhere, server)
}

#[test]
fn what_is_registered_wins_and_follows_the_election_on_virtual_addresses() {
    let mut case = Case::new(USUAL);
    case.node(ip(1), Verdict::Up);
    let (elsewhere, server) = registered();
    case.registered = Table::from([(web(), server.clone()), (elsewhere, server.clone())]).into();
    assert_eq!(case.weights(), [(5, 3)]);
    assert_eq!(case.last.table[&elsewhere], server);
    case.drained.insert(ip(5));
    assert_eq!(case.weights(), [(5, 0)]);
    case.serves(Serving::No);
    let desired = case.next();
    assert!(!desired.table.contains_key(&web()) && desired.table.contains_key(&elsewhere));
}

#[test]
fn without_checks_every_node_is_good_and_needs_no_mark() {
    let mut case = Case::new(&format!("{USUAL} --check none"));
    case.node(ip(1), Verdict::Unknown);
    assert_eq!(case.weights(), [(1, 100)]);
    assert!(case.last.marks.is_empty());
}

#[test]
fn a_table_is_made_again_only_when_something_is_new() {
    let mut case = Case::new(USUAL);
    case.node(ip(1), Verdict::Up);
    case.registered = Table::from([registered()]).into();
    type Step = (&'static str, fn(&mut Case));
    let changes: [Step; 5] = [
        ("a node", |it| it.node(ip(2), Verdict::Up)),
        ("its death", |it| it.judge(ip(2), Verdict::Dead)),
        ("a drain", |it| assert!(it.drained.insert(ip(5)))),
        ("another registration", |it| it.registered = Arc::default()),
        ("an order", |it| it.serves(Serving::No)),
    ];
    for (what, change) in changes {
        let before = case.next().table;
        assert!(Arc::ptr_eq(&case.next().table, &before), "before {what}");
        change(&mut case);
        assert_ne!(case.next().table, before, "{what}");
    }
}
