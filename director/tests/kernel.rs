//! The client and the reconciler against a real kernel with IPVS; `ipvsadm`
//! says what the kernel holds, and does what strangers do.
//!
//! They change the table of the network namespace they run in, and remove what
//! they added. `tests/kernel` runs them where that hurts nobody.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test: what is not as expected fails it, and what it measures is printed"
)]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use tidegate_director::controller::Reconciler;
use tidegate_director::ipvs::{IpvsError, Kernel, Memory, Netlink, Refusal, scheduler};
use tidegate_director::model::{
    Checksum, Family, Forwarding, KernelName, Persistence, Protocol, RealServer, Scheduling,
    SchedulingFlags, SyncDaemon, SyncRole, Table, Timeouts, Tunnel, VirtualAddress, VirtualServer,
};
use tidegate_director::plan::Ownership;

/// The address that the tests use; another is a stranger's.
const VIP: [u8; 4] = [127, 9, 0, 1];
const FOREIGN: &str = "127.9.0.2:25";

fn name(text: &str) -> KernelName {
    KernelName::new(text).unwrap()
}

fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split(' ')).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let trouble = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {trouble}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn ipvsadm(arguments: &str) -> String {
    run("ipvsadm", arguments)
}

fn tcp(address: &str) -> VirtualAddress {
    VirtualAddress::socket(Protocol::Tcp, address.parse().unwrap())
}

fn vip(port: u16) -> VirtualAddress {
    VirtualAddress::socket(Protocol::Tcp, (VIP, port).into())
}

fn mark(family: Family, number: u32) -> VirtualAddress {
    VirtualAddress::FirewallMark(family, NonZeroU32::new(number).unwrap())
}

/// Loopback addresses are the only ones with a route here.
fn host(number: u8, port: u16) -> SocketAddr {
    ([127, 0, 0, number], port).into()
}

fn direct(weight: u32) -> RealServer {
    RealServer::new(Forwarding::DirectRouting, weight)
}

fn server(port: u16, forwarding: Forwarding, weights: &[u32]) -> VirtualServer {
    let reals = (1..).zip(weights).map(|(number, weight)| {
        let real = RealServer::new(forwarding, *weight);
        (host(number, port), real)
    });
    VirtualServer {
        real_servers: reals.collect(),
        ..VirtualServer::new(Scheduling::by(name("wlc")))
    }
}

fn all_kinds() -> Table {
    let gue = Tunnel::Gue {
        port: 6080,
        checksum: Checksum::Full,
    };
    let gre = Tunnel::Gre {
        checksum: Checksum::None,
    };
    let mut table = Table::new();
    let kinds = [
        (vip(80), Forwarding::DirectRouting),
        (vip(81), Forwarding::Masquerade),
        (vip(82), Forwarding::Tunnel(Tunnel::Ipip)),
        (vip(83), Forwarding::Tunnel(gue)),
        (vip(84), Forwarding::Tunnel(gre)),
        (
            VirtualAddress::socket(Protocol::Udp, (VIP, 443).into()),
            Forwarding::DirectRouting,
        ),
        (
            VirtualAddress::socket(Protocol::Sctp, (VIP, 443).into()),
            Forwarding::DirectRouting,
        ),
        (mark(Family::V4, 0x7d1e_0001), Forwarding::DirectRouting),
    ];
    for (address, forwarding) in kinds {
        table.insert(address, server(80, forwarding, &[1, 5, 0]));
    }
    table.extend(special_kinds());
    table
}

/// Virtual servers with what few have.
fn special_kinds() -> Table {
    let scheduling = |prefix| Scheduling {
        flags: SchedulingFlags::SH_PORT.with(SchedulingFlags::SH_FALLBACK),
        persistence: Some(Persistence {
            seconds: 300,
            prefix,
        }),
        ..Scheduling::by(name("sh"))
    };
    let limited = RealServer {
        upper_threshold: 100,
        lower_threshold: 50,
        ..RealServer::new(Forwarding::DirectRouting, 7)
    };
    let of = |scheduling, real: &str| VirtualServer {
        scheduling,
        real_servers: BTreeMap::from([(real.parse().unwrap(), limited)]),
    };
    let one_packet = Scheduling {
        flags: SchedulingFlags::ONE_PACKET,
        ..Scheduling::by(name("rr"))
    };
    Table::from([
        (vip(8443), of(scheduling(24), "127.0.0.1:8443")),
        (tcp("[::1]:443"), of(scheduling(64), "[::1]:443")),
        (
            mark(Family::V6, 0x7d1e_0002),
            of(scheduling(128), "[::1]:0"),
        ),
        (
            VirtualAddress::socket(Protocol::Udp, (VIP, 53).into()),
            of(one_packet, "127.0.0.1:53"),
        ),
    ])
}

fn ours() -> Ownership {
    Ownership::new([IpAddr::from(VIP), "::1".parse().unwrap()])
}

#[tokio::test]
#[ignore = "needs CAP_NET_ADMIN and a kernel with IPVS: tests/kernel"]
async fn a_real_kernel_holds_what_it_is_told() {
    let netlink = Netlink::connect().await.unwrap();
    println!("{:?}", netlink.information().await.unwrap());
    ipvsadm(&format!("-A -t {FOREIGN} -s rr"));
    ipvsadm(&format!("-a -t {FOREIGN} -r 127.0.0.9:25 -g -w 3"));
    let desired = all_kinds();
    let mut reconciler = Reconciler::new(netlink, ours());
    let report = reconciler.reconcile(&desired).await.unwrap();
    assert!(report.failures.is_empty(), "{:#?}", report.failures);
    assert!(report.is_settled && report.passes == 2, "{report:#?}");
    assert_eq!(reconciler.actual(&desired).await.unwrap(), desired);
    let listed = ipvsadm("-Ln");
    println!("{listed}{}", ipvsadm("-Sn"));
    for text in [
        "TCP  127.9.0.1:80 wlc",
        "  -> 127.0.0.2:80                 Route   5      0          0",
        "UDP  127.9.0.1:443 wlc",
        "SCTP 127.9.0.1:443 wlc",
        "TCP  [::1]:443 sh",
        "FWM  2099118081 wlc",
        "  -> 127.0.0.1:80                 Masq    1",
        "  -> 127.0.0.1:80                 Tunnel  1",
    ] {
        assert!(listed.contains(text), "no {text:?} in\n{listed}");
    }
    disturb(&mut reconciler, &desired).await;
    let report = reconciler.reconcile(&Table::new()).await.unwrap();
    assert!(report.is_settled, "{report:#?}");
    let left = ipvsadm("-Sn");
    let expected = format!("-A -t {FOREIGN} -s rr\n-a -t {FOREIGN} -r 127.0.0.9:25 -g -w 3\n");
    assert_eq!(
        left.replace("127.0.0.9:25 -g -w 3 \n", "127.0.0.9:25 -g -w 3\n"),
        expected
    );
    ipvsadm(&format!("-D -t {FOREIGN}"));
}

/// A table by chance, with little variety, so that most of it is changed in
/// place from one to the next.
fn any_table(random: &mut fastrand::Rng) -> Table {
    let mut table = Table::new();
    for _ in 0..4 {
        let address = match random.u8(..5) {
            0 => mark(Family::V4, 0x7d1e_0001),
            1 => VirtualAddress::socket(Protocol::Udp, (VIP, 80).into()),
            _ => vip(random.u16(80..82)),
        };
        let mut server = VirtualServer::new(any_scheduling(random));
        for _ in 0..random.usize(..4) {
            let real = host(random.u8(1..4), 80);
            server.real_servers.insert(real, any_real(random));
        }
        table.insert(address, server);
    }
    table
}

fn any_scheduling(random: &mut fastrand::Rng) -> Scheduling {
    let scheduler = ["rr", "wrr", "wlc", "sh", "mh"][random.usize(..5)];
    let persistence = Persistence {
        seconds: random.u32(1..3) * 60,
        prefix: random.u8(30..33),
    };
    Scheduling {
        flags: SchedulingFlags::from_bits(random.u32(..)),
        persistence: random.bool().then_some(persistence),
        ..Scheduling::by(name(scheduler))
    }
}

fn any_real(random: &mut fastrand::Rng) -> RealServer {
    let checksum = [Checksum::None, Checksum::Full][random.usize(..2)];
    let port = random.u16(1..);
    let forwarding = [
        Forwarding::DirectRouting,
        Forwarding::Masquerade,
        Forwarding::LocalNode,
        Forwarding::Tunnel(Tunnel::Ipip),
        Forwarding::Tunnel(Tunnel::Gue { port, checksum }),
        Forwarding::Tunnel(Tunnel::Gre { checksum }),
    ];
    let upper_threshold = random.u32(..3) * 10;
    RealServer {
        upper_threshold,
        lower_threshold: random.u32(..=upper_threshold),
        ..RealServer::new(forwarding[random.usize(..6)], random.u32(..4))
    }
}

#[tokio::test]
#[ignore = "needs CAP_NET_ADMIN and a kernel with IPVS: tests/kernel"]
async fn any_table_leads_to_any_other_in_a_real_kernel() {
    let mut reconciler = Reconciler::new(Netlink::connect().await.unwrap(), ours());
    for seed in 0..60 {
        let desired = any_table(&mut fastrand::Rng::with_seed(seed));
        let report = reconciler.reconcile(&desired).await.unwrap();
        assert!(report.failures.is_empty(), "seed {seed}: {report:#?}");
        assert!(
            report.is_settled && report.passes <= 2,
            "seed {seed}: {report:#?}"
        );
        assert_eq!(
            reconciler.actual(&desired).await.unwrap(),
            desired,
            "seed {seed}"
        );
    }
    reconciler.reconcile(&Table::new()).await.unwrap();
}

/// Somebody edits the table; the next pass puts it right.
async fn disturb(reconciler: &mut Reconciler<Netlink>, desired: &Table) {
    ipvsadm("-d -t 127.9.0.1:80 -r 127.0.0.1:80");
    ipvsadm("-a -t 127.9.0.1:80 -r 127.0.0.7:80 -g -w 9");
    ipvsadm("-e -t 127.9.0.1:80 -r 127.0.0.2:80 -g -w 0");
    ipvsadm("-E -t 127.9.0.1:8443 -s rr");
    ipvsadm("-D -u 127.9.0.1:53");
    ipvsadm("-A -t 127.9.0.1:9999 -s rr");
    let report = reconciler.reconcile(desired).await.unwrap();
    assert!(
        report.is_settled && report.changes.len() == 7,
        "{report:#?}"
    );
    assert_eq!(reconciler.actual(desired).await.unwrap(), *desired);
    let report = reconciler.reconcile(desired).await.unwrap();
    assert_eq!((report.passes, report.changes.len()), (1, 0));
}

#[tokio::test]
#[ignore = "needs CAP_NET_ADMIN and a kernel with IPVS: tests/kernel"]
async fn a_real_kernel_refuses_what_it_should() {
    refuses(&Netlink::connect().await.unwrap()).await;
}

#[tokio::test]
async fn the_memory_refuses_what_a_real_kernel_does() {
    refuses(&Memory::new()).await;
}

async fn refuses(kernel: &impl Kernel) {
    let (address, other) = (mark(Family::V4, 77), mark(Family::V4, 78));
    let (one, two) = (host(1, 0), host(2, 0));
    let wlc = Scheduling::by(name("wlc"));
    kernel.add_virtual(address, &wlc).await.unwrap();
    kernel.add_real(address, one, &direct(1)).await.unwrap();
    let strange = Scheduling::by(name("nonesuch"));
    let no_scheduler = Refusal::NoScheduler(name("nonesuch"));
    let answers = [
        (kernel.add_virtual(address, &wlc).await, Refusal::Exists),
        (kernel.set_virtual(other, &wlc).await, Refusal::NoVirtual),
        (kernel.remove_virtual(other).await, Refusal::NoVirtual),
        (kernel.add_virtual(other, &strange).await, no_scheduler),
        (
            kernel.add_real(address, one, &direct(1)).await,
            Refusal::Exists,
        ),
        (
            kernel.add_real(other, one, &direct(1)).await,
            Refusal::NoVirtual,
        ),
        (
            kernel.set_real(address, two, &direct(1)).await,
            Refusal::NoReal,
        ),
        (kernel.remove_real(address, two).await, Refusal::NoReal),
        (kernel.stop_sync(SyncRole::Master).await, Refusal::NoSync),
    ];
    for (answer, why) in answers {
        let error = answer.unwrap_err();
        assert_eq!(error.refusal(), Some(&why), "{error}");
    }
    refuses_values(kernel, address).await;
    let error = kernel.virtual_server(other).await.unwrap_err();
    assert_eq!(error.refusal(), Some(&Refusal::NoVirtual));
    assert_eq!(kernel.real_servers(other).await.unwrap(), []);
    kernel.remove_virtual(address).await.unwrap();
}

async fn refuses_values(kernel: &impl Kernel, address: VirtualAddress) {
    let limits = RealServer {
        upper_threshold: 1,
        lower_threshold: 2,
        ..direct(1)
    };
    let gue = Forwarding::Tunnel(Tunnel::Gue {
        port: 0,
        checksum: Checksum::None,
    });
    let rows = [
        ("127.0.0.2:0", direct(1 << 31), Refusal::OutOfRange),
        ("127.0.0.2:0", limits, Refusal::OutOfRange),
        ("127.0.0.2:0", RealServer::new(gue, 1), Refusal::BadReal),
        ("224.0.0.1:0", direct(1), Refusal::BadReal),
        ("[::1]:0", direct(1), Refusal::BadReal),
    ];
    for (real, server, why) in rows {
        let answer = kernel
            .add_real(address, real.parse().unwrap(), &server)
            .await;
        let error = answer.unwrap_err();
        assert_eq!(error.refusal(), Some(&why), "{real} {server:?}: {error}");
    }
    let everyone = Scheduling {
        persistence: Some(Persistence {
            seconds: 1,
            prefix: 0,
        }),
        ..Scheduling::by(name("wlc"))
    };
    let answer = kernel.add_virtual(mark(Family::V6, 77), &everyone).await;
    assert_eq!(answer.unwrap_err().refusal(), Some(&Refusal::Invalid));
}

#[tokio::test]
#[ignore = "needs CAP_NET_ADMIN and a kernel with IPVS: tests/kernel"]
async fn times_sync_daemons_and_schedulers_of_a_real_kernel() {
    let netlink = Netlink::connect().await.unwrap();
    let times = Timeouts {
        tcp: Duration::from_secs(1000),
        tcp_fin: Duration::from_secs(15),
        udp: Duration::ZERO,
    };
    let udp = netlink.timeouts().await.unwrap().udp;
    netlink.set_timeouts(times).await.unwrap();
    assert_eq!(netlink.timeouts().await.unwrap(), Timeouts { udp, ..times });

    run("ip", "link add sync0 type dummy");
    run("ip", "addr add 10.9.9.1/24 dev sync0");
    run("ip", "link set sync0 up");
    let master = SyncDaemon {
        port: Some(8849),
        ttl: Some(2),
        max_length: Some(1000),
        ..SyncDaemon::new(SyncRole::Master, name("sync0"), 51)
    };
    let backup = SyncDaemon::new(SyncRole::Backup, name("sync0"), 51);
    let nowhere = SyncDaemon::new(SyncRole::Backup, name("none0"), 51);
    netlink.start_sync(&master).await.unwrap();
    let again = netlink.start_sync(&master).await.unwrap_err();
    assert_eq!(again.refusal(), Some(&Refusal::SyncRuns));
    let lost = netlink.start_sync(&nowhere).await.unwrap_err();
    assert_eq!(lost.refusal(), Some(&Refusal::NoInterface(name("none0"))));
    netlink.start_sync(&backup).await.unwrap();
    let running = netlink.sync_daemons().await.unwrap();
    println!("{running:#?}");
    assert_eq!(running[0].max_length, Some(1000));
    assert!(running.len() == 2 && master.is_met_by(&running[0]) && backup.is_met_by(&running[1]));
    netlink.stop_sync(SyncRole::Master).await.unwrap();
    netlink.stop_sync(SyncRole::Backup).await.unwrap();
    assert_eq!(netlink.sync_daemons().await.unwrap(), []);
    run("ip", "link del sync0");

    for (scheduler, expected) in [("mh", true), ("sed", true), ("nonesuch", false)] {
        let found = scheduler::is_available(&netlink, &name(scheduler)).await;
        assert_eq!(found.unwrap(), expected, "{scheduler}");
    }
}

/// Takes the modules out; those of schedulers first.
fn unload() {
    let modules = std::fs::read_to_string("/proc/modules").unwrap();
    let names = modules.lines().filter_map(|line| line.split(' ').next());
    let (last, first): (Vec<_>, Vec<_>) = names
        .filter(|name| name.starts_with("ip_vs"))
        .partition(|name| *name == "ip_vs");
    for name in first.iter().chain(&last) {
        run("rmmod", name);
    }
}

#[tokio::test]
#[ignore = "needs CAP_NET_ADMIN and a kernel with IPVS: tests/kernel"]
async fn a_module_that_is_missing_is_named_and_one_that_comes_back_is_found() {
    const LOADER: &str = "/proc/sys/kernel/modprobe";
    let netlink = Netlink::connect().await.unwrap();
    let loader = std::fs::read_to_string(LOADER).unwrap();
    let wlc = Scheduling::by(name("wlc"));
    std::fs::write(LOADER, "/bin/false").unwrap();
    unload();
    // The first may be an answer to the number that the family had.
    netlink.virtual_servers().await.unwrap_err();
    let error = netlink.virtual_servers().await.unwrap_err();
    assert_eq!(error, IpvsError::Absent);
    assert_eq!(Netlink::connect().await.unwrap_err(), IpvsError::Absent);

    run("modprobe", "ip_vs");
    assert_eq!(netlink.virtual_servers().await.unwrap(), []);
    let answer = netlink.add_virtual(mark(Family::V4, 1), &wlc).await;
    let error = answer.unwrap_err();
    let missing = Refusal::NoScheduler(name("wlc"));
    assert_eq!(error.refusal(), Some(&missing), "{error}");
    run("modprobe", "ip_vs_rr");
    let desired = Table::from([(vip(80), server(80, Forwarding::DirectRouting, &[1]))]);
    let mut reconciler = Reconciler::new(netlink, ours());
    let report = reconciler.reconcile(&desired).await.unwrap();
    assert!(report.is_settled, "{report:#?}");
    assert_eq!(report.replaced, BTreeMap::from([(name("wlc"), name("rr"))]));
    reconciler.reconcile(&Table::new()).await.unwrap();
    std::fs::write(LOADER, loader).unwrap();
}

#[tokio::test]
#[ignore = "needs CAP_NET_ADMIN and a kernel with IPVS: tests/kernel"]
async fn without_the_capability_the_kernel_refuses() {
    const INNER: &str = "WITHOUT_CAPABILITY";
    if std::env::var_os(INNER).is_some() {
        let error = Netlink::connect().await.unwrap_err();
        assert_eq!(error.refusal(), Some(&Refusal::NotPermitted), "{error}");
        return;
    }
    Netlink::connect().await.unwrap();
    let mut inner = Command::new(std::env::current_exe().unwrap());
    let test = "without_the_capability_the_kernel_refuses";
    inner
        .args(["--ignored", "--exact", test])
        .env(INNER, "1")
        .uid(65_534);
    assert!(inner.status().unwrap().success());
}

#[tokio::test]
#[ignore = "needs CAP_NET_ADMIN and a kernel with IPVS: tests/kernel"]
async fn calls_at_once_and_calls_given_up_disturb_no_others() {
    let netlink = std::sync::Arc::new(Netlink::connect().await.unwrap());
    let wlc = Scheduling::by(name("wlc"));
    netlink.add_virtual(vip(80), &wlc).await.unwrap();
    for round in 0..50_u64 {
        let patience = Duration::from_micros(round * 40);
        let _given_up = tokio::time::timeout(patience, netlink.real_servers(vip(80))).await;
        assert_eq!(
            netlink.virtual_server(vip(80)).await.unwrap().address,
            vip(80)
        );
    }
    let tasks: Vec<_> = (1..=50)
        .map(|number| {
            let netlink = std::sync::Arc::clone(&netlink);
            tokio::spawn(async move {
                let real = direct(1);
                netlink.add_real(vip(80), host(number, 80), &real).await
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(netlink.real_servers(vip(80)).await.unwrap().len(), 50);
    netlink.remove_virtual(vip(80)).await.unwrap();
}

/// Prints what a large table takes, where the machine decides.
#[tokio::test]
#[ignore = "needs CAP_NET_ADMIN and a kernel with IPVS: tests/kernel"]
async fn many_virtual_servers_in_a_real_kernel() {
    let netlink = Netlink::connect().await.unwrap();
    // More than a request's answers are buffered for, in more than one part.
    let many = (1..=1_100).map(|port| (vip(port), server(port, Forwarding::DirectRouting, &[1])));
    let desired: Table = many.collect();
    let mut reconciler = Reconciler::new(netlink, ours());
    for what in ["2,200 changes and the second look", "an idle pass"] {
        let start = Instant::now();
        let report = reconciler.reconcile(&desired).await.unwrap();
        println!("{what}: {:?}", start.elapsed());
        assert!(report.is_settled);
    }
    reconciler.reconcile(&Table::new()).await.unwrap();
}
