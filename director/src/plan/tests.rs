//! Cases by hand, and many by chance.

use std::net::SocketAddr;

use super::*;
use crate::model::chance::any_table;
use crate::model::{Forwarding, KernelName, Protocol, Scheduling, Tunnel};

fn address(port: u16) -> VirtualAddress {
    VirtualAddress::Socket(Protocol::Tcp, ([192, 0, 2, 1], port).into())
}

fn host(number: u8) -> SocketAddr {
    ([10, 0, 0, number], 80).into()
}

fn direct(weight: u32) -> RealServer {
    RealServer::new(Forwarding::DirectRouting, weight)
}

fn by(scheduler: &str) -> Scheduling {
    Scheduling::by(KernelName::new(scheduler).unwrap())
}

fn server(reals: &[(u8, u32)]) -> VirtualServer {
    let reals = reals.iter();
    VirtualServer {
        real_servers: reals
            .map(|(it, weight)| (host(*it), direct(*weight)))
            .collect(),
        ..VirtualServer::new(by("wlc"))
    }
}

fn ours() -> Ownership {
    Ownership::new([[192, 0, 2, 1].into()])
}

#[test]
fn what_gives_comes_before_what_takes() {
    let actual = Table::from([
        (address(80), server(&[(1, 1), (2, 1), (4, 0)])),
        (address(81), server(&[(1, 1)])),
    ]);
    let desired = Table::from([
        (address(80), server(&[(2, 0), (3, 1), (4, 2)])),
        (address(443), server(&[(1, 1)])),
    ]);
    let expected = [
        Change::AddVirtual(address(443), by("wlc")),
        Change::AddReal(address(443), host(1), direct(1)),
        Change::AddReal(address(80), host(3), direct(1)),
        Change::SetReal(address(80), host(4), direct(2)),
        Change::SetReal(address(80), host(2), direct(0)),
        Change::RemoveReal(address(80), host(1)),
        Change::RemoveVirtual(address(81)),
    ];
    assert_eq!(plan(&desired, &actual, &ours()), expected);
}

#[test]
fn another_way_to_schedule_or_forward_is_a_change_in_place() {
    let actual = Table::from([(address(80), server(&[(1, 1)]))]);
    let mut desired = actual.clone();
    let tunnel = RealServer::new(Forwarding::Tunnel(Tunnel::Ipip), 1);
    let changed = desired.get_mut(&address(80)).unwrap();
    changed.scheduling = by("sh");
    changed.real_servers.insert(host(1), tunnel);
    let expected = [
        Change::SetVirtual(address(80), by("sh")),
        Change::SetReal(address(80), host(1), tunnel),
    ];
    assert_eq!(plan(&desired, &actual, &ours()), expected);
}

#[test]
fn what_is_not_ours_stays() {
    let foreign = VirtualAddress::Socket(Protocol::Tcp, ([192, 0, 2, 9], 80).into());
    let actual = Table::from([(foreign, server(&[(9, 1)]))]);
    assert_eq!(plan(&Table::new(), &actual, &ours()), []);
    let both = Table::from([(foreign, server(&[(9, 1)])), (address(25), server(&[]))]);
    let removed = [Change::RemoveVirtual(address(25))];
    assert_eq!(plan(&Table::new(), &both, &ours()), removed);
}

#[test]
fn any_plan_leads_to_what_is_desired_and_strands_nobody_on_the_way() {
    for seed in 0..5_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (before, desired) = (any_table(&mut random), any_table(&mut random));
        let mut table = before.clone();
        let changes = plan(&desired, &before, &ours());
        for change in &changes {
            change.carry_out(&mut table);
            for (address, goal) in &desired {
                let was = before.get(address).is_some_and(VirtualServer::is_serving);
                let shall = goal.is_serving();
                if was && shall {
                    assert!(table[address].is_serving(), "seed {seed}: after {change}");
                }
            }
        }
        assert_eq!(table, desired, "seed {seed}");
        assert_eq!(plan(&desired, &table, &ours()), [], "seed {seed}");
        let mut seen = std::collections::BTreeSet::new();
        let objects = changes.iter().map(|change| match change {
            Change::AddReal(address, real, _)
            | Change::SetReal(address, real, _)
            | Change::RemoveReal(address, real) => (*address, Some(*real)),
            other => (other.address(), None),
        });
        for object in objects {
            assert!(seen.insert(object), "seed {seed}: {object:?} changed twice");
        }
    }
}
