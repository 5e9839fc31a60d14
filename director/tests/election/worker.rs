//! What runs inside a namespace.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tidegate_director::config::{
    ApiSettings, CheckKind, CheckSettings, HeartbeatSettings, KernelSettings, LogSettings,
    ReceiverSettings, Roles, Settings, SourceSettings, Vip, VrrpSettings,
};
use tidegate_director::election::{Parts, run};
use tidegate_director::journal::{Entry, Journal};
use tidegate_director::model::{Forwarding, KernelName, Scheduling, Timeouts};
use tidegate_director::network::Links;
use tidegate_director::source::Roster;
use tidegate_director::view::{Ask, Command, ControlState, Order, VrrpState};
use tidegate_director::vrrp::link::claim;
use tidegate_director::vrrp::packet::{Authentication, Datagram, Version};
use tidegate_director::vrrp::{HardwareAddress, Preempt};
use tidegate_shared::shutdown::{self, Stage};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

/// Which worker this process is; it is none without it.
pub(crate) const ROLE: &str = "TIDEGATE_ELECTION_ROLE";

/// What the worker is told, `name=value` by spaces.
pub(crate) const TOLD: &str = "TIDEGATE_ELECTION_TOLD";

#[test]
fn worker() {
    match std::env::var(ROLE).as_deref() {
        Ok("elect") => elect(),
        Ok("sniff") => sniff(),
        _ => {}
    }
}

fn say(text: impl std::fmt::Display) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    writeln!(out, "! {text}").unwrap();
    out.flush().unwrap();
}

fn told() -> BTreeMap<String, String> {
    let text = std::env::var(TOLD).unwrap_or_default();
    let pairs = text
        .split_whitespace()
        .filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn list(text: Option<&String>) -> Vec<IpAddr> {
    let parts = text.map(|text| text.split(',')).into_iter().flatten();
    parts.map(|part| part.parse().unwrap()).collect()
}

#[expect(
    clippy::too_many_lines,
    reason = "a list of values, most of which the election does not look at"
)]
fn settings() -> Settings {
    let told = told();
    let name = |text: &str| KernelName::new(text).unwrap();
    let number = |key: &str, default: u64| told.get(key).map_or(default, |it| it.parse().unwrap());
    let is = |key: &str| told.get(key).is_some_and(|it| it == "1");
    let two = number("version", 3) == 2;
    let vips = list(told.get("vips")).into_iter().map(|address| Vip {
        address,
        prefix: if address.is_ipv4() { 32 } else { 128 },
    });
    let preempt = told.get("preempt").map(|it| it.parse().unwrap());
    Settings {
        roles: Roles {
            director: true,
            receiver: false,
        },
        vips: vips.collect(),
        interface: told.get("interface").map(|it| name(it)),
        interface_timeout: Duration::ZERO,
        state_file: None,
        ports: Vec::new(),
        sources: SourceSettings {
            nodes: Vec::new(),
            dns: Vec::new(),
            dns_interval: Duration::from_secs(5),
            swarm: None,
            docker_link: None,
            heartbeat: HeartbeatSettings {
                enabled: false,
                port: 4673,
                key: None,
                interval: Duration::from_millis(500),
                directors: Vec::new(),
            },
        },
        scheduling: Scheduling::by(name("wlc")),
        forwarding: Forwarding::DirectRouting,
        weight: 100,
        vrrp: VrrpSettings {
            enabled: !is("alone"),
            vrid: u8::try_from(number("vrid", 51)).unwrap(),
            priority: u8::try_from(number("priority", 100)).unwrap(),
            interval: Duration::from_millis(number("interval", 250)),
            preempt: preempt.map_or(Preempt::Never, |ms| {
                Preempt::After(Duration::from_millis(ms))
            }),
            version: if two {
                Version::V2(Authentication::None)
            } else {
                Version::V3
            },
            checksum: None,
            peers: list(told.get("peers")),
            witnesses: list(told.get("witnesses")),
            needs_witness: !is("trusting"),
            duplicate_check: true,
            refresh: Duration::from_secs(30),
        },
        check: CheckSettings {
            kind: Some(CheckKind::Tcp),
            port: 80,
            path: "/ping".to_owned(),
            host: None,
            expect: Vec::new(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
            through_vip: true,
            quorum: 1,
        },
        kernel: KernelSettings {
            sync: false,
            sync_id: 51,
            sync_interface: None,
            timeouts: Timeouts::default(),
            tune: false,
        },
        receiver: ReceiverSettings {
            device: name("tidegate0"),
            keep: false,
            proc_sys: None,
        },
        api: ApiSettings {
            listen: None,
            socket: "/nonexistent".into(),
            writable: false,
            token: None,
            tls: None,
        },
        dry_run: is("dry"),
        log: LogSettings {
            level: tracing::Level::INFO,
            json: false,
        },
    }
}

fn elect() {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(take_part());
    say("ended");
    std::process::exit(0);
}

async fn take_part() {
    let (links, network) = Links::open().await.unwrap();
    let (orders, orders_end) = mpsc::channel(4);
    let (asks, asks_end) = mpsc::channel(4);
    let (state, states) = watch::channel(Arc::new(VrrpState::default()));
    let (_roster, roster) = watch::channel(Arc::new(Roster::default()));
    let (control, control_end) = watch::channel(Arc::new(ControlState::default()));
    let (trigger, shutdown) = shutdown::channel();
    let journal = Journal::default();
    let news = journal.listen();
    let parts = Parts {
        settings: Arc::new(settings()),
        links,
        network,
        roster,
        control: control_end,
        orders,
        asks: asks_end,
        state,
        journal,
        shutdown,
    };
    let (refusing, refusal) = watch::channel(false);
    tokio::spawn(answer(orders_end, refusal));
    tokio::spawn(show(states));
    tokio::spawn(tell(news));
    tokio::spawn(obey(asks, trigger, refusing));
    if let Err(error) = run(parts).await {
        say(format_args!("error {error}"));
    }
    drop(control);
}

/// A table that does as it is told, or refuses.
async fn answer(mut orders: mpsc::Receiver<Order>, refusal: watch::Receiver<bool>) {
    while let Some(order) = orders.recv().await {
        let (what, answer) = match order {
            Order::Program(_, answer) => ("program", answer),
            Order::Withdraw(_, answer) => ("withdraw", answer),
        };
        say(format_args!("order {what}"));
        let refuses = *refusal.borrow() && what == "program";
        let result = if refuses {
            Err("refused by the test".to_owned())
        } else {
            Ok(())
        };
        answer.send(result).unwrap();
    }
}

/// Says every change of state, and how long it took.
async fn show(mut states: watch::Receiver<Arc<VrrpState>>) {
    let mut last: BTreeMap<bool, String> = BTreeMap::new();
    while states.changed().await.is_ok() {
        let routers = states.borrow_and_update().routers.clone();
        for router in routers {
            let six = router.addresses.first().is_some_and(|it| it.is_ipv6());
            let family = if six { "ipv6" } else { "ipv4" };
            let text = format!("{family} {:?} holding={}", router.state, router.is_holding);
            if last.insert(six, text.clone()).as_ref() != Some(&text) {
                say(format_args!(
                    "{text} cause={:?} took={:?}",
                    router.cause, router.takeover
                ));
            }
        }
    }
}

async fn tell(mut news: broadcast::Receiver<Entry>) {
    while let Ok(entry) = news.recv().await {
        say(format_args!(
            "journal {}: {} ({})",
            entry.subject, entry.decision, entry.cause
        ));
    }
}

async fn obey(asks: mpsc::Sender<Ask>, trigger: shutdown::Trigger, refusing: watch::Sender<bool>) {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match line.as_str() {
            "stop" => trigger.advance(Stage::Draining),
            "refuse" => drop(refusing.send_replace(true)),
            "accept" => drop(refusing.send_replace(false)),
            "failover" => {
                let (sender, answer) = oneshot::channel();
                asks.send((Command::Failover, sender)).await.unwrap();
                tokio::spawn(async move { say(format_args!("answer {:?}", answer.await)) });
            }
            other => say(format_args!("unknown {other}")),
        }
    }
    std::future::pending::<()>().await;
}

/// Says who claims an address and who advertises, as the link sees it.
fn sniff() {
    let all = i32::from(0x0003_u16.to_be());
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(all))).unwrap();
    say("listening");
    let start = Instant::now();
    let mut buffer = [0; 2048];
    while start.elapsed() < Duration::from_secs(120) {
        let length = (&socket).read(&mut buffer).unwrap();
        let frame = &buffer[..length];
        if let Some(claim) = claim(frame, HardwareAddress::UNKNOWN) {
            say(format_args!("claim {} {}", claim.address, claim.hardware));
        } else if frame.get(12..14) == Some(&[8, 0]) && frame.get(23) == Some(&112) {
            let datagram = Datagram::from_ipv4(&frame[14..]).unwrap();
            match datagram.decode() {
                Ok((heard, _)) => {
                    say(format_args!(
                        "advert {} {}",
                        datagram.source, heard.priority
                    ));
                }
                Err(reason) => say(format_args!("bad advert {} {reason}", datagram.source)),
            }
        }
    }
}
