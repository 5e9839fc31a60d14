//! The memory answers as the kernel does.

use std::num::NonZeroU32;

use super::*;
use crate::ipvs::Refusal;
use crate::model::{Forwarding, Persistence, Protocol, Tunnel};

fn name(text: &str) -> KernelName {
    KernelName::new(text).unwrap()
}

fn wlc() -> Scheduling {
    Scheduling::by(name("wlc"))
}

fn web() -> VirtualAddress {
    VirtualAddress::socket(Protocol::Tcp, ([192, 0, 2, 1], 80).into())
}

fn host(number: u8) -> SocketAddr {
    ([10, 0, 0, number], 80).into()
}

fn direct(weight: u32) -> RealServer {
    RealServer::new(Forwarding::DirectRouting, weight)
}

fn refusal<T>(result: Result<T, IpvsError>) -> Refusal {
    match result {
        Err(error) => error.refusal().unwrap().clone(),
        Ok(_) => panic!("it was done"),
    }
}

async fn serving() -> Memory {
    let kernel = Memory::new();
    kernel.add_virtual(web(), &wlc()).await.unwrap();
    kernel.add_real(web(), host(1), &direct(1)).await.unwrap();
    kernel
}

#[tokio::test]
async fn objects_that_are_there_or_are_not() {
    let kernel = serving().await;
    let other = VirtualAddress::FirewallMark(Family::V4, NonZeroU32::MIN);
    assert_eq!(
        refusal(kernel.add_virtual(web(), &wlc()).await),
        Refusal::Exists
    );
    assert_eq!(
        refusal(kernel.add_real(web(), host(1), &direct(1)).await),
        Refusal::Exists
    );
    assert_eq!(
        refusal(kernel.set_virtual(other, &wlc()).await),
        Refusal::NoVirtual
    );
    assert_eq!(
        refusal(kernel.virtual_server(other).await),
        Refusal::NoVirtual
    );
    assert_eq!(
        refusal(kernel.remove_virtual(other).await),
        Refusal::NoVirtual
    );
    assert_eq!(
        refusal(kernel.add_real(other, host(1), &direct(1)).await),
        Refusal::NoVirtual
    );
    assert_eq!(
        refusal(kernel.set_real(web(), host(2), &direct(1)).await),
        Refusal::NoReal
    );
    assert_eq!(
        refusal(kernel.remove_real(web(), host(2)).await),
        Refusal::NoReal
    );
    // No error here, as in the kernel.
    assert_eq!(kernel.real_servers(other).await.unwrap(), []);
}

#[tokio::test]
async fn real_servers_are_listed_newest_first() {
    let kernel = serving().await;
    kernel.add_real(web(), host(2), &direct(1)).await.unwrap();
    kernel.set_real(web(), host(1), &direct(7)).await.unwrap();
    let entries = kernel.real_servers(web()).await.unwrap();
    let seen: Vec<_> = entries
        .iter()
        .map(|it| (it.address, it.server.weight))
        .collect();
    assert_eq!(seen, [(host(2), 1), (host(1), 7)]);
}

#[tokio::test]
async fn values_that_the_kernel_does_not_take() {
    let kernel = serving().await;
    let limits = |upper_threshold, lower_threshold| RealServer {
        upper_threshold,
        lower_threshold,
        ..direct(1)
    };
    let gue = Forwarding::Tunnel(Tunnel::Gue {
        port: 0,
        checksum: crate::model::Checksum::None,
    });
    let rows: [(SocketAddr, RealServer, Refusal); 7] = [
        (host(2), direct(1 << 31), Refusal::OutOfRange),
        (host(2), limits(1, 2), Refusal::OutOfRange),
        (host(2), limits(1 << 31, 2), Refusal::BadReal),
        (host(2), RealServer::new(gue, 1), Refusal::BadReal),
        (([224, 0, 0, 1], 80).into(), direct(1), Refusal::BadReal),
        ("[fe80::1]:80".parse().unwrap(), direct(1), Refusal::BadReal),
        (
            "[2001:db8::1]:80".parse().unwrap(),
            direct(1),
            Refusal::BadReal,
        ),
    ];
    for (real, server, why) in rows {
        let answer = kernel.add_real(web(), real, &server).await;
        assert_eq!(refusal(answer), why, "{real} {server:?}");
    }
    let tunnel = RealServer::new(Forwarding::Tunnel(Tunnel::Ipip), 1);
    let six = "[2001:db8::1]:80".parse().unwrap();
    kernel.add_real(web(), six, &tunnel).await.unwrap();
}

#[tokio::test]
async fn what_this_kernel_lacks() {
    let six = VirtualAddress::socket(Protocol::Tcp, "[2001:db8::1]:80".parse().unwrap());
    let old = Memory::new().without_ipv6();
    assert_eq!(refusal(old.add_virtual(six, &wlc()).await), Refusal::NoIpv6);
    let small = Memory::new().with_schedulers([name("rr")]);
    assert_eq!(
        refusal(small.add_virtual(web(), &wlc()).await),
        Refusal::NoScheduler(name("wlc"))
    );
    let strict = Memory::new().without_permission();
    assert_eq!(
        refusal(strict.virtual_servers().await),
        Refusal::NotPermitted
    );
    let everyone = Scheduling {
        persistence: Some(Persistence {
            seconds: 1,
            prefix: 0,
        }),
        ..wlc()
    };
    let kernel = Memory::new();
    assert_eq!(
        refusal(kernel.add_virtual(six, &everyone).await),
        Refusal::Invalid
    );
    kernel.add_virtual(web(), &everyone).await.unwrap();
}

#[tokio::test]
async fn sync_daemons_run_once_each() {
    let kernel = Memory::new().with_interfaces([name("eth0")]);
    let master = SyncDaemon::new(SyncRole::Master, name("eth0"), 5);
    let backup = SyncDaemon::new(SyncRole::Backup, name("eth1"), 5);
    kernel.start_sync(&master).await.unwrap();
    assert_eq!(refusal(kernel.start_sync(&master).await), Refusal::SyncRuns);
    assert_eq!(
        refusal(kernel.start_sync(&backup).await),
        Refusal::NoInterface(name("eth1"))
    );
    let running = kernel.sync_daemons().await.unwrap();
    assert!(master.is_met_by(&running[0]) && running[0] != master);
    kernel.stop_sync(SyncRole::Master).await.unwrap();
    assert_eq!(
        refusal(kernel.stop_sync(SyncRole::Master).await),
        Refusal::NoSync
    );
}

#[tokio::test]
async fn a_time_of_zero_leaves_what_is_there() {
    let kernel = Memory::new();
    let some = Timeouts {
        tcp: Duration::from_millis(7_900),
        tcp_fin: Duration::ZERO,
        udp: Duration::ZERO,
    };
    kernel.set_timeouts(some).await.unwrap();
    let expected = Timeouts {
        tcp: Duration::from_secs(7),
        ..Timeouts::default()
    };
    assert_eq!(kernel.timeouts().await.unwrap(), expected);
}

#[tokio::test]
async fn faults_happen_once() {
    let kernel = serving().await;
    kernel.take_journal();
    kernel.inject(Fault::Refuse(errno::ENOMEM));
    kernel.inject(Fault::LoseAnswer);
    kernel.inject(Fault::Skip);
    kernel.inject(Fault::Repeat);
    let refused = kernel.add_real(web(), host(2), &direct(1)).await;
    assert_eq!(refusal(refused), Refusal::NoMemory);
    let lost = kernel.add_real(web(), host(2), &direct(1)).await;
    assert!(matches!(lost, Err(IpvsError::Silent { .. })));
    assert_eq!(kernel.take_journal(), [Operation::AddReal(web(), host(2))]);
    let counts = [
        kernel.real_servers(web()).await.unwrap().len(),
        kernel.real_servers(web()).await.unwrap().len(),
        kernel.real_servers(web()).await.unwrap().len(),
    ];
    assert_eq!(counts, [1, 3, 2]);
}
