//! Links and receiving on a real kernel: what is known of links and how soon, what
//! a neighbour sees of receiving, and how fast it heals.
//!
//! They change the network namespace and the settings of the machine they run
//! on. `tests/kernel` runs them where that hurts nobody (with the modules `veth`
//! and `nf_tables`). Where there are no dummy devices, `lo` is used.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unused_self,
    reason = "a test: what is not as expected fails it, times are printed, and only who has the link asks on it"
)]

use std::fs;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_director::config::{ReceiverSettings, Vip};
use tidegate_director::journal::Journal;
use tidegate_director::model::KernelName;
use tidegate_director::network::{AddressUse, Links, Snapshot};
use tidegate_director::receiver::{self, Hush, Receiver, ReceiverState};
use tidegate_shared::shutdown::{self, Stage, Trigger};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const OWN: &str = "192.0.2.7";
const PEER: &str = "192.0.2.99";
const VIP: &str = "192.0.2.10";
const VIP6: &str = "fd00::10";
const NEAR: &str = "tgnear";
const FAR: &str = "tgnetfar";
const IGNORE: &str = "/proc/sys/net/ipv4/conf/all/arp_ignore";
const ANNOUNCE: &str = "/proc/sys/net/ipv4/conf/all/arp_announce";

fn try_run(line: &str) -> Result<String, String> {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().unwrap());
    let output = command.args(words).output().map_err(|it| it.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

fn run(line: &str) -> String {
    try_run(line).unwrap_or_else(|trouble| panic!("{line}: {trouble}"))
}

fn far(script: &str) -> bool {
    let mut command = Command::new("ip");
    let arguments = ["netns", "exec", FAR, "bash", "-c", script];
    command.args(arguments).output().unwrap().status.success()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn name(text: &str) -> KernelName {
    KernelName::new(text).unwrap()
}

fn setting(path: &str) -> String {
    fs::read_to_string(path).unwrap().trim().to_owned()
}

/// A neighbour in a namespace of its own, on a cable to this one.
struct Link;

impl Link {
    fn new() -> Self {
        Self::remove();
        run(&format!("ip netns add {FAR}"));
        run(&format!(
            "ip link add {NEAR} type veth peer name tgfar netns {FAR}"
        ));
        run(&format!("ip addr add {OWN}/24 dev {NEAR}"));
        run(&format!("ip addr add fd00::7/64 dev {NEAR} nodad"));
        run(&format!("ip link set {NEAR} up"));
        run(&format!("ip -n {FAR} addr add {PEER}/24 dev tgfar"));
        run(&format!("ip -n {FAR} addr add fd00::99/64 dev tgfar nodad"));
        run(&format!("ip -n {FAR} link set tgfar up"));
        for family in ["ipv4", "ipv6"] {
            let path = format!("/proc/sys/net/{family}/neigh/tgfar");
            assert!(far(&format!(
                "echo 1 >{path}/mcast_solicit; echo 300 >{path}/retrans_time_ms"
            )));
        }
        fs::write(IGNORE, "0").unwrap();
        fs::write(ANNOUNCE, "0").unwrap();
        Self
    }

    fn remove() {
        let _ = try_run(&format!("ip link del {NEAR}"));
        let _ = try_run(&format!("ip netns del {FAR}"));
        let _ = try_run("ip link del tidegate0");
        for vip in [format!("{VIP}/32"), format!("{VIP6}/128")] {
            let _ = try_run(&format!("ip addr del {vip} dev lo"));
        }
    }

    /// Does anybody on the link say that he has this address?
    fn is_answered(&self, asked: &str) -> bool {
        let neighbours = || run(&format!("ip -n {FAR} neigh show {asked}"));
        run(&format!("ip -n {FAR} neigh flush to {asked}"));
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(10) {
            let state = neighbours();
            if state.is_empty() {
                far(&format!("echo >/dev/udp/{asked}/9"));
            }
            if state.contains("lladdr") {
                return true;
            }
            if state.contains("FAILED") {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("no state of {asked}: {}", neighbours());
    }

    /// Waits until the virtual address is answered for, or is not.
    async fn until_answered(&self, expected: bool) {
        let begin = Instant::now();
        while self.is_answered(VIP) != expected {
            assert!(begin.elapsed() < Duration::from_secs(10), "{expected}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn is_quiet(&self) -> bool {
        assert!(self.is_answered(OWN) && self.is_answered("fd00::7"));
        !self.is_answered(VIP) && !self.is_answered(VIP6)
    }

    /// Does a connection to the virtual address arrive, sent as directors do?
    fn is_reached(&self, asked: &str) -> bool {
        let listener = TcpListener::bind((asked, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shown = run(&format!("ip link show {NEAR}"));
        let hardware = shown.split("link/ether ").nth(1).unwrap();
        let hardware = hardware.split(' ').next().unwrap();
        run(&format!(
            "ip -n {FAR} neigh replace {asked} lladdr {hardware} dev tgfar"
        ));
        let arrived = far(&format!(
            "timeout 5 bash -c 'exec 3<>/dev/tcp/{asked}/{port}'"
        ));
        run(&format!("ip -n {FAR} neigh del {asked} dev tgfar"));
        arrived
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        Self::remove();
        let _ = fs::write(IGNORE, "0");
        let _ = fs::write(ANNOUNCE, "0");
    }
}

fn device() -> &'static str {
    match try_run("ip link add tgprobe type dummy") {
        Ok(_) => {
            run("ip link del tgprobe");
            "tidegate0"
        }
        Err(_) => "lo",
    }
}

fn settings(device: &str) -> ReceiverSettings {
    ReceiverSettings {
        device: name(device),
        keep: false,
        proc_sys: None,
    }
}

fn vips() -> Vec<Vip> {
    let vip = |text, prefix| Vip {
        address: address(text),
        prefix,
    };
    vec![vip(VIP, 24), vip(VIP6, 64)]
}

struct Running {
    links: Links,
    network: watch::Receiver<Arc<Snapshot>>,
    state: watch::Receiver<Arc<ReceiverState>>,
    journal: Journal,
    trigger: Trigger,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(settings: ReceiverSettings) -> Self {
        let (links, network) = Links::open().await.unwrap();
        let (sender, state) = watch::channel(Arc::default());
        let (trigger, shutdown) = shutdown::channel();
        let journal = Journal::default();
        let receiver = Receiver {
            settings,
            vips: vips(),
            interface: None,
            links: links.clone(),
            network: network.clone(),
            state: sender,
            journal: journal.clone(),
        };
        Self {
            links,
            network,
            state,
            journal,
            trigger,
            task: tokio::spawn(receiver::run(receiver, shutdown)),
        }
    }

    async fn until(&mut self, what: &str, is_so: impl Fn(&ReceiverState) -> bool) {
        let limit = Duration::from_secs(10);
        let state = self.state.wait_for(|state| is_so(state));
        let reached = tokio::time::timeout(limit, state).await.is_ok();
        let log = self.journal.after(0);
        assert!(reached, "{what}: {:?}\n{log:#?}", self.state.borrow());
    }

    async fn stop(self) {
        self.trigger.advance(Stage::Draining);
        self.task.await.unwrap();
    }

    /// Does damage, and waits until everything is as it was.
    async fn survive(&mut self, damage: &str, device: &str) {
        let before = self.state.borrow().repairs;
        let begin = Instant::now();
        run(damage);
        let done = begin.elapsed();
        loop {
            let now = self.links.interfaces().await.unwrap();
            let device = now.iter().find(|it| it.name == name(device));
            let is_there = device
                .is_some_and(|it| it.is_up && it.holds(address(VIP)) && it.holds(address(VIP6)));
            if is_there && is_hushed() {
                break;
            }
            assert!(
                begin.elapsed() < Duration::from_secs(10),
                "{damage}: {now:#?}"
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let took = begin.elapsed().checked_sub(done).unwrap();
        println!("{damage}: repaired within {took:?}");
        assert!(took < Duration::from_secs(1), "{damage}: {took:?}");
        self.until(damage, |state| {
            state.repairs > before && state.in_place.len() == 2
        })
        .await;
    }
}

fn is_hushed() -> bool {
    setting(IGNORE) == "1" && setting(ANNOUNCE) == "2"
}

/// Waits for a snapshot of this kind.
async fn shows(
    network: &mut watch::Receiver<Arc<Snapshot>>,
    what: &str,
    is_so: impl Fn(&Snapshot) -> bool,
) {
    let begin = Instant::now();
    let seen = network.wait_for(|now| is_so(now));
    let seen = tokio::time::timeout(Duration::from_secs(20), seen).await;
    assert!(seen.is_ok(), "{what}");
    println!("{what}: known within {:?}", begin.elapsed());
}

#[tokio::test]
#[ignore = "needs CAP_NET_ADMIN and a machine of its own: tests/kernel"]
async fn the_snapshot_follows_the_kernel() {
    let _link = Link::new();
    let (links, mut network) = Links::open().await.unwrap();
    let near = |now: &Snapshot| now.named(&name(NEAR)).cloned();
    let seen = near(&network.borrow()).unwrap();
    assert!(
        seen.is_up && seen.hardware.is_some() && seen.mtu == 1500,
        "{seen:?}"
    );
    let found = network
        .borrow()
        .for_vip(address(VIP), 32, None)
        .map(|it| it.index);
    assert_eq!(found, Ok(seen.index));
    run(&format!("ip -n {FAR} link set tgfar down"));
    shows(&mut network, "a cable is out", |now| {
        !near(now).unwrap().is_running
    })
    .await;
    run(&format!("ip -n {FAR} link set tgfar up"));
    shows(&mut network, "it is in again", |now| {
        near(now).unwrap().is_running
    })
    .await;
    shows(&mut network, "an address is checked", |now| {
        near(now).unwrap().link_local().is_some()
    })
    .await;
    run("ip route add default via 192.0.2.1");
    let gateway = [address("192.0.2.1")];
    shows(&mut network, "a default route", |now| {
        now.gateways == gateway
    })
    .await;
    run(&format!("ip link set {NEAR} name tgother"));
    shows(&mut network, "a name", |now| {
        now.named(&name("tgother")).is_some()
    })
    .await;
    run("ip link del tgother");
    let is_gone = |now: &Snapshot| now.named(&name("tgother")).is_none() && now.gateways.is_empty();
    shows(&mut network, "a link is gone, and its routes", is_gone).await;
    assert!(links.remove_link(seen.index).await.is_ok());
    assert!(
        links
            .remove_address(seen.index, address(VIP), 32)
            .await
            .is_ok()
    );
    let added = links
        .add_address(seen.index, address(VIP), 32, AddressUse::Held)
        .await;
    assert!(
        added
            .unwrap_err()
            .to_string()
            .contains("the device is gone")
    );
}

#[tokio::test]
#[ignore = "needs CAP_NET_ADMIN and a machine of its own: tests/kernel"]
async fn lost_messages_cost_nothing_but_time() {
    const MANY: usize = 3000;
    let _link = Link::new();
    let (_links, mut network) = Links::open().await.unwrap();
    let count = |now: &Snapshot| now.named(&name(NEAR)).unwrap().addresses.len();
    let before = count(&network.borrow());
    let place = std::env::temp_dir().join(format!("tidegate-addresses-{}", std::process::id()));
    let mut lines = String::new();
    for number in 0..MANY {
        let (high, low) = (number / 256, number % 256);
        lines.push_str(&format!("addr add 10.9.{high}.{low}/32 dev {NEAR}\n"));
    }
    fs::write(&place, lines).unwrap();
    // Nobody reads the messages meanwhile: this blocks the only thread.
    run(&format!("ip -batch {}", place.display()));
    fs::remove_file(&place).unwrap();
    shows(&mut network, "all addresses", |now| {
        count(now) == before + MANY
    })
    .await;
    run("ip addr flush to 10.9.0.0/16");
    shows(&mut network, "none of them", |now| count(now) == before).await;
}

#[tokio::test]
#[ignore = "needs CAP_NET_ADMIN and a machine of its own: tests/kernel"]
async fn virtual_addresses_are_no_sources() {
    let _link = Link::new();
    let (links, network) = Links::open().await.unwrap();
    let near = network.borrow().named(&name(NEAR)).unwrap().index;
    for purpose in [AddressUse::Held, AddressUse::Received] {
        run(&format!("ip addr flush dev {NEAR}"));
        for (vip, prefix) in [(VIP, 32), (VIP6, 128)] {
            for _ in 0..2 {
                let added = links.add_address(near, address(vip), prefix, purpose);
                added.await.unwrap();
            }
        }
        run(&format!("ip addr add {OWN}/24 dev {NEAR}"));
        run(&format!("ip addr add fd00::7/64 dev {NEAR} nodad"));
        for (target, own) in [(PEER, OWN), ("fd00::99", "fd00::7")] {
            let route = run(&format!("ip route get {target}"));
            assert!(
                route.contains(&format!("src {own} ")),
                "{purpose:?} {route}"
            );
        }
        run("ip route replace default via 192.0.2.1");
        let route = run("ip route get 198.51.100.1");
        assert!(
            route.contains(&format!("src {OWN} ")),
            "{purpose:?} {route}"
        );
        let listed = run(&format!("ip addr show dev {NEAR}"));
        let mut lines = listed.lines();
        let line = lines.find(|line| line.contains(VIP6)).unwrap();
        let is_as_told = ["nodad", "deprecated"]
            .iter()
            .all(|flag| line.contains(flag));
        assert!(is_as_told, "{line}");
    }
}

#[tokio::test]
#[ignore = "needs CAP_NET_ADMIN and a machine of its own: tests/kernel"]
async fn a_receiver_is_quiet_and_heals_and_leaves_nothing() {
    let device = device();
    println!("the device is {device}");
    let link = Link::new();
    // As kernels are, they do answer: what comes then is not for nothing.
    run(&format!("ip addr add {VIP}/32 dev lo"));
    assert!(link.is_answered(VIP));
    run(&format!("ip addr del {VIP}/32 dev lo"));
    let mut running = Running::start(settings(device)).await;
    running.until("set up", |it| it.in_place.len() == 2).await;
    assert_eq!(running.state.borrow().hushed_by, Some(Hush::Settings));
    assert_eq!(running.state.borrow().repairs, 0);
    assert!(link.is_quiet() && link.is_reached(VIP) && link.is_reached(VIP6));
    let damages = [
        format!("ip addr del {VIP}/32 dev {device}"),
        format!("ip addr del {VIP6}/128 dev {device}"),
        "sysctl -qw net.ipv4.conf.all.arp_ignore=0".to_owned(),
        "sysctl -qw net.ipv4.conf.all.arp_announce=0".to_owned(),
    ];
    for damage in &damages {
        running.survive(damage, device).await;
    }
    if device != "lo" {
        for damage in ["addr flush dev", "link set", "link del"] {
            let end = if damage == "link set" { " down" } else { "" };
            let damage = format!("ip {damage} {device}{end}");
            running.survive(&damage, device).await;
        }
    }
    assert!(link.is_quiet() && link.is_reached(VIP) && link.is_reached(VIP6));
    println!("{:#?}", running.journal.after(0));
    running.stop().await;
    assert_eq!(
        (setting(IGNORE), setting(ANNOUNCE)),
        ("0".to_owned(), "0".to_owned())
    );
    let left = run("ip addr");
    assert!(
        !left.contains(VIP) && !left.contains(VIP6) && !left.contains("tidegate0"),
        "{left}"
    );
}

#[tokio::test]
#[ignore = "needs CAP_NET_ADMIN and a machine of its own: tests/kernel"]
async fn what_is_kept_is_taken_over_untouched() {
    let device = device();
    let link = Link::new();
    let keep = ReceiverSettings {
        keep: true,
        ..settings(device)
    };
    let mut first = Running::start(keep).await;
    first.until("set up", |it| it.in_place.len() == 2).await;
    first.stop().await;
    assert!(link.is_quiet() && is_hushed());
    let index = |running: &Running| {
        let now = running.network.borrow();
        now.named(&name(device)).map(|it| it.index)
    };
    let mut second = Running::start(settings(device)).await;
    second
        .until("taken over", |it| it.in_place.len() == 2)
        .await;
    let before = index(&second);
    assert!(
        second.journal.after(0).is_empty(),
        "{:#?}",
        second.journal.after(0)
    );
    assert_eq!(index(&second), before);
    let links = second.links.clone();
    second.stop().await;
    assert!(!run("ip addr").contains(VIP));
    receiver::teardown(&settings(device), &vips(), &links)
        .await
        .unwrap();
}

/// `/proc/sys` as containers have it.
struct ReadOnly;

impl ReadOnly {
    fn new() -> Self {
        run("mount --bind /proc/sys /proc/sys");
        run("mount -o remount,ro,bind /proc/sys");
        Self
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = try_run("umount /proc/sys");
    }
}

#[tokio::test]
#[ignore = "needs CAP_NET_ADMIN and a machine of its own: tests/kernel"]
async fn a_filter_hushes_where_settings_are_read_only() {
    let device = device();
    let link = Link::new();
    let mounted = ReadOnly::new();
    let mut running = Running::start(settings(device)).await;
    running.until("set up", |it| it.in_place.len() == 2).await;
    assert_eq!(running.state.borrow().hushed_by, Some(Hush::Filter));
    assert!(link.is_quiet() && link.is_reached(VIP));

    // What leaves from the virtual address asks in this machine's own name.
    run(&format!("ip neigh flush to {PEER}"));
    run(&format!("ip -n {FAR} neigh flush all"));
    let socket = UdpSocket::bind((VIP, 0)).unwrap();
    let begin = Instant::now();
    while !run(&format!("ip -n {FAR} neigh show {OWN}")).contains("lladdr") {
        socket.send_to(b"x", (PEER, 9)).unwrap();
        assert!(begin.elapsed() < Duration::from_secs(10));
    }
    // It may ask for the virtual address itself, to answer it, and hears nothing.
    assert!(!run(&format!("ip -n {FAR} neigh show {VIP}")).contains("lladdr"));

    // A master answers its clients, and only while it is one.
    let links = running.links.clone();
    let near = running.network.borrow().named(&name(NEAR)).unwrap().index;
    for _ in 0..2 {
        let held = AddressUse::Held;
        links
            .add_address(near, address(VIP), 32, held)
            .await
            .unwrap();
        link.until_answered(true).await;
        links.remove_address(near, address(VIP), 32).await.unwrap();
        link.until_answered(false).await;
    }

    // Somebody removes it.
    let stranger = settings("tgnone");
    receiver::teardown(&stranger, &[], &links).await.unwrap();
    running.until("repaired", |it| it.repairs == 1).await;
    assert!(link.is_quiet());

    // The settings can be written again, and take over.
    drop(mounted);
    running
        .until("settings", |it| it.hushed_by == Some(Hush::Settings))
        .await;
    assert!(link.is_quiet() && is_hushed());
    running.stop().await;
    leftover(&link, device).await;
    assert!(!run("ip addr").contains(VIP));
}

/// A filter that is left knows nothing of who is master; the next process, which
/// does not need it, removes it.
async fn leftover(link: &Link, device: &str) {
    let mounted = ReadOnly::new();
    let keep = ReceiverSettings {
        keep: true,
        ..settings(device)
    };
    let mut first = Running::start(keep).await;
    first.until("set up", |it| it.in_place.len() == 2).await;
    assert_eq!(first.state.borrow().hushed_by, Some(Hush::Filter));
    first.stop().await;
    assert!(link.is_quiet());
    drop(mounted);
    let mut second = Running::start(settings(device)).await;
    second
        .until("settings", |it| it.hushed_by == Some(Hush::Settings))
        .await;
    run(&format!("ip addr add {VIP}/32 dev {NEAR}"));
    assert!(link.is_answered(VIP));
    run(&format!("ip addr del {VIP}/32 dev {NEAR}"));
    second.stop().await;
}

#[tokio::test]
#[ignore = "needs CAP_NET_ADMIN and a machine of its own: tests/kernel"]
async fn settings_are_written_where_the_host_shows_them() {
    let device = device();
    let _link = Link::new();
    let _mounted = ReadOnly::new();
    let place = std::env::temp_dir().join(format!("tidegate-proc-{}", std::process::id()));
    fs::create_dir_all(&place).unwrap();
    run(&format!("mount -t proc proc {}", place.display()));
    let given = ReceiverSettings {
        proc_sys: Some(place.join("sys")),
        ..settings(device)
    };
    let mut running = Running::start(given).await;
    running.until("set up", |it| it.in_place.len() == 2).await;
    let by = running.state.borrow().hushed_by;
    running.stop().await;
    run(&format!("umount {}", place.display()));
    fs::remove_dir(&place).unwrap();
    assert_eq!(by, Some(Hush::Settings));
    assert_eq!(setting(IGNORE), "0");
}

#[tokio::test]
#[ignore = "needs CAP_NET_ADMIN and a machine of its own: tests/kernel"]
async fn trouble_is_said_in_words() {
    let _link = Link::new();
    let mut running = Running::start(settings(NEAR)).await;
    running
        .until("another kind of device", |it| {
            let trouble = it.trouble.as_deref();
            trouble.is_some_and(|it| it.contains("tgnear is there already and is no dummy"))
        })
        .await;
    running.stop().await;
    assert!(run("ip link").contains(NEAR));
    let missing = PathBuf::from("/nonexistent");
    let given = ReceiverSettings {
        proc_sys: Some(missing),
        ..settings(device())
    };
    let mut running = Running::start(given).await;
    running
        .until("falls back", |it| it.in_place.len() == 2)
        .await;
    running.stop().await;
}
