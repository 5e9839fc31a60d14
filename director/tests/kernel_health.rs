//! Probes through the real path: nodes are network namespaces behind a bridge,
//! and private virtual servers of a real IPVS lead the virtual address to each.
//!
//! `tests/kernel --count 0 --module veth --module bridge` runs them. They make links and
//! change the kernel's table: where there are links already they refuse.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test: what is not as expected fails it, and what it measures is printed"
)]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::num::NonZeroU32;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_director::config::{CheckKind, CheckSettings, Vip};
use tidegate_director::health::probe::{Failure, Outcome, Prober, Question, Way};
use tidegate_director::health::{Checking, Health, Marks, Verdict, Watched, run};
use tidegate_director::journal::Journal;
use tidegate_director::model::{Forwarding, KernelName};
use tidegate_director::network::{Interface, InterfaceAddress, Snapshot};
use tidegate_director::source::{Node, Origin, Roster, Sighting, Stance};
use tidegate_shared::shutdown;
use tokio::sync::watch;

const PORT: u16 = 8080;
const NODES: u8 = 3;
const PATIENCE: Duration = Duration::from_secs(3);

fn sh(command: &str) {
    let output = Command::new("bash").args(["-ec", command]).output();
    let output = output.unwrap();
    let trouble = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {trouble}");
}

/// Both families: `.10` and `::10` are virtual, this machine is 1, nodes follow.
fn address(is_v6: bool, number: u8) -> IpAddr {
    let text = if is_v6 {
        format!("2001:db8::{number}")
    } else {
        format!("192.0.2.{number}")
    };
    text.parse().unwrap()
}

fn mark(number: u8) -> NonZeroU32 {
    NonZeroU32::new(0x7d1e_0000 + u32::from(number)).unwrap()
}

/// Makes the private virtual servers of a node.
fn lead(number: u8) {
    let mark = mark(number);
    sh(&format!(
        "ipvsadm -A -f {mark} -s rr
         ipvsadm -a -f {mark} -r 192.0.2.{number}:0 -g
         ipvsadm -A -f {mark} -6 -s rr
         ipvsadm -a -f {mark} -6 -r [2001:db8::{number}]:0 -g"
    ));
}

fn inside(number: u8, command: &str) {
    sh(&format!("ip netns exec n{number} {command}"));
}

/// The nodes' servers; they end with it.
struct Lab(Vec<Child>);

impl Drop for Lab {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Lab {
    fn new() -> Self {
        sh("ip link add br0 type bridge forward_delay 0
            ip addr add 192.0.2.1/24 dev br0; ip -6 addr add 2001:db8::1/64 dev br0 nodad
            ip link set br0 up
            ip addr add 192.0.2.10/32 dev br0
            ip -6 addr add 2001:db8::10/128 dev br0 nodad preferred_lft 0
            echo 1 >/proc/sys/net/ipv4/conf/br0/accept_local
            modprobe ip_vs; echo 3 >/proc/sys/net/ipv4/vs/conn_reuse_mode");
        let mut lab = Self(Vec::new());
        lead(1);
        lab.serve(1, "");
        for number in 2..2 + NODES {
            sh(&format!(
                "ip netns add n{number}
                 ip link add v{number} type veth peer name eth0 netns n{number}
                 ip link set v{number} master br0 up
                 ip netns exec n{number} bash -ec '
                   echo 1 >/proc/sys/net/ipv4/conf/all/arp_ignore
                   echo 2 >/proc/sys/net/ipv4/conf/all/arp_announce
                   ip link set lo up; ip link set eth0 up
                   ip addr add 192.0.2.{number}/24 dev eth0
                   ip -6 addr add 2001:db8::{number}/64 dev eth0 nodad
                   ip addr add 192.0.2.10/32 dev lo
                   ip -6 addr add 2001:db8::10/128 dev lo nodad preferred_lft 0'"
            ));
            lead(number);
            lab.serve(number, &format!("ip netns exec n{number}"));
        }
        lab
    }

    /// A server that answers with its number as the status: 201, 202 ..
    fn serve(&mut self, number: u8, within: &str) {
        let program = std::env::current_exe().unwrap();
        let command = format!(
            "exec {within} {} --ignored --exact answers_for_ever",
            program.display()
        );
        let child = Command::new("bash")
            .args(["-c", &command])
            .env("STATUS", (200 + u16::from(number)).to_string())
            .stdout(Stdio::null())
            .spawn();
        self.0.push(child.unwrap());
    }
}

#[test]
#[ignore = "it is the server of the other tests"]
fn answers_for_ever() {
    let status = std::env::var("STATUS").unwrap();
    let listener = TcpListener::bind(("::", PORT)).unwrap();
    while let Ok((mut stream, _)) = listener.accept() {
        let answer = format!("HTTP/1.1 {status} Node\r\nContent-Length: 0\r\n\r\n");
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(answer.as_bytes());
    }
}

/// Only where it hurts nobody: there is IPVS, and no link but `lo`.
fn can_run() -> bool {
    let links = std::fs::read_dir("/sys/class/net").into_iter().flatten();
    let names = links.flatten().map(|it| it.file_name());
    let ipvs = || Command::new("modprobe").arg("ip_vs").status();
    names.into_iter().all(|name| name == "lo") && ipvs().is_ok_and(|it| it.success())
}

fn way(target: IpAddr, mark: Option<NonZeroU32>) -> Way {
    Way {
        target: SocketAddr::new(target, PORT),
        source: Some(address(target.is_ipv6(), 1)),
        mark,
        hops: mark.map(|_| 2),
        patience: PATIENCE,
        timeout: PATIENCE,
    }
}

/// Which node answered, or why none did.
async fn who(way: &Way) -> Result<u8, Failure> {
    let prober = Prober::new(Question::Http {
        tls: false,
        host: None,
        path: "/".to_owned(),
        expect: Vec::new(),
    });
    match prober.ask(way).await {
        Outcome::Bad(Failure::Status(status)) => Ok(u8::try_from(status - 200).unwrap()),
        Outcome::Bad(failure) => Err(failure),
        Outcome::Good { .. } => panic!("no status is good"),
    }
}

async fn until_all_answer() {
    let end = Instant::now() + Duration::from_secs(60);
    for number in 1..2 + NODES {
        for is_v6 in [false, true] {
            let way = way(address(is_v6, number), None);
            while who(&way).await != Ok(number) {
                assert!(Instant::now() < end, "node {number} does not answer");
            }
        }
    }
}

/// Every mark leads to its node, whoever holds the virtual address.
async fn marks_lead_to_their_nodes() {
    for round in 0..10 {
        for number in 1..2 + NODES {
            for is_v6 in [false, true] {
                let through = way(address(is_v6, 10), Some(mark(number)));
                assert_eq!(who(&through).await, Ok(number), "{round} {through:?}");
            }
        }
    }
}

/// A node without the virtual address is found, and its own address is good.
async fn a_missing_address_is_found() {
    for forwards in [0, 1] {
        inside(2, &format!("sysctl -qw net.ipv4.ip_forward={forwards}"));
        inside(2, "ip addr del 192.0.2.10/32 dev lo");
        let through = way(address(false, 10), Some(mark(2)));
        let started = Instant::now();
        let failure = who(&through).await.unwrap_err();
        if forwards == 0 {
            assert_eq!(failure, Failure::Silent(PATIENCE));
        } else {
            assert_eq!(failure, Failure::Unreachable, "it says so");
            assert!(started.elapsed() < PATIENCE / 2, "at once");
        }
        assert_eq!(who(&way(address(false, 2), None)).await, Ok(2));
        assert_eq!(who(&way(address(false, 10), Some(mark(3)))).await, Ok(3));
        inside(2, "ip addr add 192.0.2.10/32 dev lo");
        assert_eq!(who(&through).await, Ok(2));
    }
}

fn network() -> Snapshot {
    let own = |is_v6, prefix| InterfaceAddress {
        address: address(is_v6, 1),
        prefix,
        is_tentative: false,
    };
    let interface = Interface {
        index: 2,
        name: KernelName::new("br0").unwrap(),
        hardware: None,
        is_running: true,
        is_up: true,
        mtu: 1500,
        is_loopback: false,
        is_dummy: false,
        addresses: vec![own(false, 24), own(true, 64)],
    };
    Snapshot {
        interfaces: vec![interface],
        gateways: Vec::new(),
    }
}

fn checking() -> Checking {
    let check = CheckSettings {
        kind: Some(CheckKind::Http),
        port: PORT,
        path: "/".to_owned(),
        host: None,
        expect: vec![200..=299],
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        rise: 2,
        fall: 3,
        through_vip: true,
        quorum: 1,
    };
    let vip = |is_v6: bool| Vip {
        address: address(is_v6, 10),
        prefix: if is_v6 { 128 } else { 32 },
    };
    Checking {
        check,
        vips: vec![vip(false), vip(true)],
        interface: None,
        forwarding: Forwarding::DirectRouting,
    }
}

fn all_nodes() -> impl Iterator<Item = (IpAddr, u8)> {
    let numbers = (1..2 + NODES).flat_map(|number| [(false, number), (true, number)]);
    numbers.map(|(is_v6, number)| (address(is_v6, number), number))
}

fn roster() -> Roster {
    let sighting = Sighting {
        stance: Stance::Ready,
        name: None,
        weight: None,
        seen: Instant::now(),
    };
    let node = Node {
        sightings: [(Origin::Static, sighting)].into(),
    };
    Roster {
        nodes: all_nodes()
            .map(|(address, _)| (address, node.clone()))
            .collect(),
        ..Roster::default()
    }
}

/// Waits until the node has this verdict, for at most half a minute; says how
/// long it took.
async fn until(
    health: &mut watch::Receiver<Arc<Health>>,
    node: IpAddr,
    verdict: Verdict,
) -> (Duration, String) {
    let started = Instant::now();
    let is_so = |health: &Arc<Health>| {
        health
            .nodes
            .get(&node)
            .is_some_and(|it| it.verdict == verdict)
    };
    let found = tokio::time::timeout(Duration::from_secs(30), health.wait_for(is_so)).await;
    let Ok(Ok(found)) = found else {
        panic!("{node} never got {verdict:?}");
    };
    (started.elapsed(), found.nodes[&node].reason.clone())
}

/// The whole loop sees the same.
async fn the_loop_judges() {
    let marks: Marks = all_nodes()
        .map(|(address, number)| (address, mark(number)))
        .collect();
    let (_roster, roster) = watch::channel(Arc::new(roster()));
    let (_marks, marks) = watch::channel(Arc::new(marks));
    let (_network, network) = watch::channel(Arc::new(network()));
    let (state, mut health) = watch::channel(Arc::default());
    let (trigger, end) = shutdown::channel();
    let watched = Watched {
        roster,
        marks,
        network,
        masters: watch::channel(Arc::default()).1,
    };
    let checks = tokio::spawn(run(checking(), watched, state, Journal::default(), end));
    for (node, _) in all_nodes() {
        until(&mut health, node, Verdict::Up).await;
    }
    inside(3, "ip addr del 192.0.2.10/32 dev lo");
    let node = address(false, 3);
    let (took, reason) = until(&mut health, node, Verdict::Impaired).await;
    println!("a missing virtual address was found after {took:?}: {reason}");
    assert!(
        reason.contains("192.0.2.10 is missing on the node"),
        "{reason}"
    );
    inside(3, "ip addr add 192.0.2.10/32 dev lo");
    let (took, _) = until(&mut health, node, Verdict::Up).await;
    println!("it was back after {took:?}");
    sh("ip link set v4 down");
    let (took, reason) = until(&mut health, address(false, 4), Verdict::Dead).await;
    println!("a dead node was found after {took:?}: {reason}");
    until(&mut health, address(true, 4), Verdict::Dead).await;
    sh("ip link set v4 up");
    let (took, _) = until(&mut health, address(false, 4), Verdict::Up).await;
    println!("it was back after {took:?}");
    trigger.request();
    checks.await.unwrap();
}

#[tokio::test]
#[ignore = "needs root on a kernel with IPVS: tests/kernel"]
async fn marked_probes_take_the_real_path() {
    assert!(can_run(), "it needs a machine of its own: tests/kernel");
    let _lab = Lab::new();
    until_all_answer().await;
    marks_lead_to_their_nodes().await;
    a_missing_address_is_found().await;
    the_loop_judges().await;
    // As on a standby, which does not hold the virtual address.
    sh("ip addr del 192.0.2.10/32 dev br0; ip -6 addr del 2001:db8::10/128 dev br0");
    sh("ip addr add 192.0.2.10/32 dev lo; ip -6 addr add 2001:db8::10/128 dev lo nodad");
    marks_lead_to_their_nodes().await;
}
