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

mod links;
mod neighbour;

use std::fs;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_director::config::{ReceiverSettings, Vip};
use tidegate_director::journal::Journal;
use tidegate_director::network::{AddressUse, Links, Snapshot};
use tidegate_director::receiver::{self, Hush, Receiver, ReceiverState};
use tidegate_shared::shutdown::{self, Stage, Trigger};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::neighbour::{
    ANNOUNCE, FAR, IGNORE, Link, NEAR, OWN, PEER, VIP, VIP6, address, name, run, setting, try_run,
};

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
    seen: u64,
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
            seen: 0,
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
        for entry in self.journal.after(self.seen) {
            println!(
                "    {}: {} ({})",
                entry.subject, entry.decision, entry.cause
            );
            self.seen = entry.number;
        }
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

#[tokio::test]
#[ignore = "needs CAP_NET_ADMIN and a machine of its own: tests/kernel"]
async fn a_receiver_is_quiet_and_heals_and_leaves_nothing() {
    let device = device();
    println!("the device is {device}");
    let link = Link::new();
    // As kernels are, they do answer: what comes then is not for nothing.
    run(&format!("ip addr add {VIP}/32 dev lo"));
    assert!(link.is_answered(VIP).await);
    run(&format!("ip addr del {VIP}/32 dev lo"));
    let mut running = Running::start(settings(device)).await;
    running.until("set up", |it| it.in_place.len() == 2).await;
    assert_eq!(running.state.borrow().hushed_by, Some(Hush::Settings));
    assert_eq!(running.state.borrow().repairs, 0);
    assert!(link.is_quiet().await && link.is_reached(VIP) && link.is_reached(VIP6));
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
    assert!(link.is_quiet().await && link.is_reached(VIP) && link.is_reached(VIP6));
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
    assert!(link.is_quiet().await && is_hushed());
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
    assert!(link.is_quiet().await && link.is_reached(VIP));

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
    assert!(link.is_quiet().await);

    // The settings can be written again, and take over.
    drop(mounted);
    running
        .until("settings", |it| it.hushed_by == Some(Hush::Settings))
        .await;
    assert!(link.is_quiet().await && is_hushed());
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
    assert!(link.is_quiet().await);
    drop(mounted);
    let mut second = Running::start(settings(device)).await;
    second
        .until("settings", |it| it.hushed_by == Some(Hush::Settings))
        .await;
    run(&format!("ip addr add {VIP}/32 dev {NEAR}"));
    assert!(link.is_answered(VIP).await);
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
