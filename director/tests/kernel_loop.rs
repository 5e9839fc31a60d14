//! The loop against a real kernel with IPVS; `ipvsadm` plays the strangers.
//!
//! Changes the table of the network namespace it runs in, and removes what it
//! added. `tests/kernel` runs it where that hurts nobody.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test: what is not as expected fails it, and what it measures is printed"
)]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tidegate_director::config::Settings;
use tidegate_director::config::loader::load;
use tidegate_director::controller::{self, Feeds, Outlets, Reconciler, Tuning};
use tidegate_director::health::{Health, NodeHealth, Verdict};
use tidegate_director::ipvs::{Kernel, Netlink};
use tidegate_director::journal::Journal;
use tidegate_director::model::{
    Family, Forwarding, KernelName, Protocol, RealServer, Scheduling, SyncRole, Table,
    VirtualAddress, VirtualServer,
};
use tidegate_director::network::Snapshot;
use tidegate_director::network::sysctl::Sysctl;
use tidegate_director::plan::Ownership;
use tidegate_director::source::{Node, Origin, Roster, Sighting, SourceState, Stance};
use tidegate_director::view::{self, Ask, ControlState, Order};
use tidegate_shared::shutdown::{self, Stage, Trigger};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

const FLAGS: &str = "--vip 127.9.0.1/8 --port 80,443 --node 127.0.0.1 --sync-interface sync0";

/// Loopback addresses are the only ones with a route here.
fn ip(number: u8) -> IpAddr {
    [127, 0, 0, number].into()
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

fn settings() -> Settings {
    let flags = FLAGS.split(' ').map(str::to_owned);
    load(flags, [], &[]).unwrap().settings
}

fn roster(numbers: &[u8]) -> Roster {
    let sighting = Sighting {
        stance: Stance::Ready,
        name: None,
        weight: None,
        seen: Instant::now(),
    };
    let node = Node {
        sightings: BTreeMap::from([(Origin::Static, sighting)]),
    };
    let answered = SourceState {
        answered: Some(Instant::now()),
        error: None,
    };
    Roster {
        nodes: numbers.iter().map(|it| (ip(*it), node.clone())).collect(),
        sources: BTreeMap::from([(Origin::Static, answered)]),
    }
}

fn health(verdicts: &[(u8, Verdict)]) -> Health {
    let nodes = verdicts.iter().map(|(number, verdict)| {
        let health = NodeHealth {
            verdict: *verdict,
            ..NodeHealth::default()
        };
        (ip(*number), health)
    });
    Health {
        nodes: nodes.collect(),
        quorum_lost: false,
    }
}

struct Bench {
    roster: watch::Sender<Arc<Roster>>,
    health: watch::Sender<Arc<Health>>,
    orders: mpsc::Sender<Order>,
    asks: mpsc::Sender<Ask>,
    state: watch::Receiver<Arc<ControlState>>,
    journal: Journal,
    registered: watch::Sender<Arc<Table>>,
    // Held, so that the loop goes on.
    _network: watch::Sender<Arc<Snapshot>>,
    trigger: Trigger,
    running: JoinHandle<()>,
}

impl Bench {
    fn start() -> Self {
        let (roster, roster_seen) = watch::channel(Arc::default());
        let (health, health_seen) = watch::channel(Arc::default());
        let (registered, registered_seen) = watch::channel(Arc::default());
        let (network, network_seen) = watch::channel(Arc::default());
        let (orders, orders_seen) = mpsc::channel(4);
        let (asks, asks_seen) = mpsc::channel(4);
        let (state_out, state) = watch::channel(Arc::default());
        let (trigger, shutdown) = shutdown::channel();
        let journal = Journal::default();
        let feeds = Feeds {
            roster: roster_seen,
            health: health_seen,
            registered: registered_seen,
            network: network_seen,
            orders: orders_seen,
            asks: asks_seen,
        };
        let outlets = Outlets {
            state: state_out,
            marks: watch::channel(Arc::default()).0,
            journal: journal.clone(),
        };
        let kernel = Arc::new(Netlink::unconnected());
        let tuning: Box<dyn Tuning> = Box::new(Sysctl::new(None));
        let settings = Arc::new(settings());
        let run = controller::run(kernel, Some(tuning), settings, feeds, outlets, shutdown);
        // Apart from the test, which waits for other programs.
        let running = std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().unwrap();
            runtime.block_on(run);
        });
        Self {
            roster,
            health,
            orders,
            asks,
            state,
            journal,
            registered,
            _network: network,
            trigger,
            running,
        }
    }

    /// Ends the loop: nothing touches the table any more.
    fn end(self) {
        self.trigger.advance(Stage::Draining);
        drop(self.orders);
        self.running.join().unwrap();
    }

    async fn order(&self, is_serving: bool) {
        let (answer, answered) = oneshot::channel();
        let order = match is_serving {
            true => Order::Program(Family::V4, answer),
            false => Order::Withdraw(Family::V4, answer),
        };
        self.orders.send(order).await.unwrap();
        let patience = Duration::from_secs(20);
        timeout(patience, answered).await.unwrap().unwrap().unwrap();
    }

    async fn ask(&self, command: view::Command) -> Result<String, String> {
        let (answer, answered) = oneshot::channel();
        self.asks.send((command, answer)).await.unwrap();
        answered.await.unwrap()
    }

    async fn seen(&mut self, what: impl FnMut(&Arc<ControlState>) -> bool) {
        let patience = Duration::from_secs(20);
        let found = timeout(patience, self.state.wait_for(what)).await;
        let is_found = found.is_ok_and(|it| it.is_ok());
        let journal = || {
            self.journal
                .after(0)
                .into_iter()
                .map(|it| (it.decision, it.cause))
        };
        assert!(
            is_found,
            "{:#?}\n{:#?}",
            self.state.borrow(),
            journal().collect::<Vec<_>>()
        );
    }
}

/// Waits until the table of the service on port 80 reads so.
async fn until(expected: &str) -> Duration {
    let start = Instant::now();
    loop {
        let listed = ipvsadm("-Sn");
        let reals = listed
            .lines()
            .filter(|it| it.contains("-a -t 127.9.0.1:80 "));
        let short = reals.map(|it| it.split(' ').skip(4).step_by(3).take(2));
        let mut found: Vec<String> = short.map(|it| it.collect::<Vec<_>>().join("=")).collect();
        found.sort();
        if found.join(" ") == expected {
            return start.elapsed();
        }
        let limit = Duration::from_secs(10);
        assert!(
            start.elapsed() < limit,
            "{found:?} and not {expected}\n{listed}"
        );
        sleep(Duration::from_millis(20)).await;
    }
}

fn add_sync_link() {
    run("ip", "link add sync0 type dummy");
    run("ip", "addr add 10.9.9.1/24 dev sync0");
    run("ip", "link set sync0 up");
}

/// A table as a director that was killed leaves it. The real servers are in an
/// order that the director would not choose: what is removed and added again
/// comes to the head.
fn leave() -> String {
    for port in [80, 443] {
        ipvsadm(&format!("-A -t 127.9.0.1:{port} -s wlc"));
        for number in [2, 3, 1] {
            let real = format!("127.0.0.{number}:{port} -g -w 100");
            ipvsadm(&format!("-a -t 127.9.0.1:{port} -r {real}"));
        }
    }
    ipvsadm("-Ln")
}

/// Failure modes 1, 2, 14 (settings), 21 and 22.
#[tokio::test]
#[ignore = "needs CAP_NET_ADMIN and a kernel with IPVS: tests/kernel"]
async fn the_loop_keeps_a_real_kernels_table() {
    add_sync_link();
    let before = leave();
    let mut bench = Bench::start();
    sleep(Duration::from_secs(3)).await;
    bench.order(true).await;
    sleep(Duration::from_secs(2)).await;
    assert_eq!(ipvsadm("-Ln"), before);
    let verdicts = [1, 2, 3].map(|it| (it, Verdict::Up));
    bench.health.send_replace(Arc::new(health(&verdicts)));
    bench.roster.send_replace(Arc::new(roster(&[1, 2, 3])));
    bench.seen(|it| it.marks.len() == 3).await;
    let after = ipvsadm("-Ln");
    for line in before.lines() {
        assert!(after.contains(line), "no {line:?} in\n{after}");
    }
    assert!(
        after.starts_with(before.split("FWM").next().unwrap()),
        "{after}"
    );
    let changed = bench.journal.after(0).into_iter();
    let removals = changed.filter(|it| it.decision.starts_with("remove"));
    assert_eq!(removals.count(), 0);
    strangers(&mut bench).await;
    settings_and_roles(&mut bench).await;
    println!("{}", bench.ask(view::Command::Teardown).await.unwrap());
    assert_eq!(ipvsadm("-Sn"), "");
    assert_eq!(run("ipvsadm", "-L --daemon"), "");
    bench.end();
    run("ip", "link del sync0");
}

/// Somebody edits the table; the loop puts it right. How fast is printed: all
/// is emulated here.
async fn strangers(bench: &mut Bench) {
    let good = "127.0.0.1:80=100 127.0.0.2:80=100 127.0.0.3:80=100";
    for edit in [
        "-d -t 127.9.0.1:80 -r 127.0.0.1:80",
        "-a -t 127.9.0.1:80 -r 127.0.0.7:80 -g -w 9",
        "-e -t 127.9.0.1:80 -r 127.0.0.2:80 -g -w 0",
        "-D -t 127.9.0.1:80",
        "-C",
    ] {
        ipvsadm(edit);
        let took = until(good).await;
        println!("repaired after ipvsadm {edit}: {took:?}");
    }
    bench.seen(|it| it.counts.repairs > 5).await;
    bench.ask(view::Command::Drain(ip(2))).await.unwrap();
    until("127.0.0.1:80=100 127.0.0.2:80=0 127.0.0.3:80=100").await;
    let verdicts = [(1, Verdict::Up), (2, Verdict::Up), (3, Verdict::Dead)];
    bench.health.send_replace(Arc::new(health(&verdicts)));
    until("127.0.0.1:80=100 127.0.0.2:80=0").await;
    bench.ask(view::Command::Undrain(ip(2))).await.unwrap();
}

/// Many changes of role, faster than anybody would.
async fn settings_and_roles(bench: &mut Bench) {
    let start = Instant::now();
    for round in 0..30 {
        bench.order(round % 2 == 1).await;
    }
    println!("30 changes of role: {:?}", start.elapsed());
    // It listens at any time, and speaks while it serves.
    let roles = |state: &Arc<ControlState>| state.sync.iter().map(|it| it.role).collect::<Vec<_>>();
    bench
        .seen(|it| roles(it) == [SyncRole::Master, SyncRole::Backup])
        .await;
    for (key, value) in [
        ("sloppy_tcp", "1"),
        ("conn_reuse_mode", "3"),
        ("sync_threshold", "3\t0"),
    ] {
        let path = format!("/proc/sys/net/ipv4/vs/{key}");
        assert_eq!(std::fs::read_to_string(path).unwrap().trim_end(), value);
    }
    until("127.0.0.1:80=100 127.0.0.2:80=100").await;
}

fn vip() -> IpAddr {
    [127, 9, 0, 1].into()
}

fn large_table(vip: IpAddr, servers: u16, reals: u8) -> Table {
    let real = RealServer::new(Forwarding::DirectRouting, 1);
    let wlc = Scheduling::by(KernelName::new("wlc").unwrap());
    let servers = (1..=servers).map(|port| {
        let address = VirtualAddress::socket(Protocol::Tcp, (vip, port).into());
        let server = VirtualServer {
            real_servers: (1..=reals)
                .map(|it| ((ip(it), port).into(), real))
                .collect(),
            ..VirtualServer::new(wlc.clone())
        };
        (address, server)
    });
    servers.collect()
}

/// Prints what a large table takes; `MANY=1000x50` for another size.
#[tokio::test]
#[ignore = "needs CAP_NET_ADMIN and a kernel with IPVS: tests/kernel"]
async fn a_large_table_in_a_real_kernel() {
    let size = std::env::var("MANY").unwrap_or_else(|_| "300x10".to_owned());
    let (servers, reals) = size.split_once('x').unwrap();
    let (servers, reals): (u16, u8) = (servers.parse().unwrap(), reals.parse().unwrap());
    let table = large_table(vip(), servers, reals);
    let mut reconciler =
        Reconciler::new(Netlink::connect().await.unwrap(), Ownership::new([vip()]));
    let start = Instant::now();
    let report = reconciler.reconcile(&table).await.unwrap();
    println!(
        "{size}: {} changes and the second look: {:?}",
        report.changes.len(),
        start.elapsed()
    );
    assert!(report.is_settled);
    // As the loop does it: seventeen passes see all of it.
    let part = usize::from(servers.div_ceil(500));
    for _ in 0..17 {
        reconciler.look(&table, part).await.unwrap();
    }
    let mut longest = Duration::ZERO;
    for _ in 0..34 {
        let start = Instant::now();
        assert!(reconciler.look(&table, part).await.unwrap().is_empty());
        longest = longest.max(start.elapsed());
    }
    println!("{size}: an idle pass, 20 of them a second: {longest:?} at most");
    ipvsadm(&format!(
        "-e -t 127.9.0.1:{servers} -r 127.0.0.1:{servers} -g -w 9"
    ));
    let mut passes = 0;
    let wrong = loop {
        passes += 1;
        assert!(passes <= 17, "an edit is not seen");
        let wrong = reconciler.look(&table, part).await.unwrap();
        if !wrong.is_empty() {
            break wrong;
        }
    };
    println!("{size}: an edit is seen by pass {passes}");
    let edited: Vec<_> = wrong.iter().map(ToString::to_string).collect();
    assert_eq!(edited, [format!("tcp 127.9.0.1:{servers}")]);
    let start = Instant::now();
    let report = reconciler
        .reconcile_only(&table, Some(wrong))
        .await
        .unwrap();
    println!("{size}: its repair: {:?}", start.elapsed());
    assert_eq!(report.changes.len(), 1);
    let start = Instant::now();
    let _all = reconciler.kernel().virtual_servers().await.unwrap();
    println!("{size}: the list of virtual servers: {:?}", start.elapsed());
    let longest = idle_pass(table).await;
    println!("{size}: an idle pass with all that the loop does besides: {longest:?} at most");
    ipvsadm("-C");
}

/// The loop with this table registered by the API: what its passes take while
/// nothing happens, as far as it says so.
async fn idle_pass(table: Table) -> Duration {
    add_sync_link();
    let count = table.len();
    let mut bench = Bench::start();
    bench.registered.send_replace(Arc::new(table));
    bench.order(true).await;
    bench.seen(|it| it.actual.len() >= count).await;
    let before = bench.state.borrow().counts.passes;
    bench.seen(|it| it.counts.passes >= before + 34).await;
    let mut longest = Duration::ZERO;
    for _ in 0..20 {
        bench.state.changed().await.unwrap();
        longest = longest.max(bench.state.borrow().took);
    }
    assert_eq!(bench.state.borrow().trouble, None);
    bench.ask(view::Command::Teardown).await.unwrap();
    bench.end();
    run("ip", "link del sync0");
    longest
}
