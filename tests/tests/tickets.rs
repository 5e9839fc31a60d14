//! Sessions of TLS begun on one proxy of a cluster and resumed on the others, as
//! `openssl s_client` sees it, while the keys of the tickets change.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test: what fails, fails it"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use scenarios::process::Proxy;
use scenarios::{Scratch, eventually_blocking, ports};

/// How often keys change here: the shortest time that is allowed.
const ROTATION: Duration = Duration::from_secs(10);
/// Until members know each other and each other's keys, on a busy machine.
const MEET: Duration = Duration::from_secs(40);
/// Until enough keys have come and gone.
const LONG: Duration = Duration::from_secs(120);

const ROUTES: &str = "
http:
  routers:
    a: {rule: 'Host(`a.example`)', service: none, tls: {}}
    b: {rule: 'Host(`b.example`)', service: none, tls: {options: other}}
    m: {rule: 'Host(`m.example`)', service: none, tls: {options: mutual}}
  services:
    none: {loadBalancer: {servers: []}}
tls:
  options:
    other: {sniStrict: false}
    mutual: {clientAuth: {clientAuthType: RequestClientCert}}
";

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Version {
    Old,
    New,
}

impl Version {
    const ALL: [Self; 2] = [Self::Old, Self::New];

    fn flag(self) -> &'static str {
        match self {
            Self::Old => "-tls1_2",
            Self::New => "-tls1_3",
        }
    }
}

/// What a visit was like.
#[derive(Debug)]
struct Visit {
    is_resumed: bool,
    /// The head of the ticket that the client got: the name of the key that sealed it.
    key: Option<String>,
    text: String,
}

/// Three places for proxies that share a secret, and the sessions of clients.
struct Cluster {
    files: Scratch,
    tls: Vec<SocketAddr>,
    mesh: Vec<SocketAddr>,
    nodes: Vec<Option<Proxy>>,
}

impl Cluster {
    fn new() -> Self {
        let files = Scratch::new().unwrap();
        files.write("secret", &"s3cret-".repeat(8)).unwrap();
        let (tls, mesh) = (ports::free().unwrap(), ports::free().unwrap());
        let address = |node: u8| IpAddr::from(Ipv4Addr::new(127, 0, 0, 12 + node));
        let on = |port| (0..3).map(move |node| SocketAddr::new(address(node), port));
        Self {
            files,
            tls: on(tls).collect(),
            mesh: on(mesh).collect(),
            nodes: vec![None, None, None],
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    fn start(&mut self, node: usize) {
        let peers: Vec<_> = self.mesh.iter().map(ToString::to_string).collect();
        let arguments = [
            "--providers.file.filename=routes.yml".to_owned(),
            "--log.level=INFO".to_owned(),
            format!("--entrypoints.websecure.address={}", self.tls[node]),
            format!("--cluster.secretfile={}", self.path("secret").display()),
            format!("--cluster.address={}", self.mesh[node]),
            format!("--cluster.peers={}", peers.join(",")),
            format!("--cluster.name=node{node}"),
            format!("--cluster.statefile={}", self.state(node).display()),
            format!("--cluster.ticketrotation={}s", ROTATION.as_secs()),
        ];
        let mut command = Proxy::command()
            .unwrap()
            .file("routes.yml", ROUTES)
            .unwrap();
        for argument in arguments {
            command = command.arg(argument);
        }
        let proxy = command.ready_at(self.tls[node]).start().unwrap();
        self.nodes[node] = Some(proxy);
    }

    fn state(&self, node: usize) -> PathBuf {
        self.path(&format!("state{node}"))
    }

    /// A power cut.
    fn kill(&mut self, node: usize) {
        self.nodes[node] = None;
    }

    /// A visit of a client that keeps its session in `session`, under the name that it
    /// asks for; what it has there already it shows.
    fn visit(&self, node: usize, version: Version, name: &str, session: &str) -> Visit {
        let session = self.path(session);
        let mut command = Command::new("openssl");
        command
            .args(["s_client", "-ign_eof", version.flag(), "-servername", name])
            .arg("-connect")
            .arg(self.tls[node].to_string())
            .arg("-sess_out")
            .arg(&session);
        if session.exists() {
            command.arg("-sess_in").arg(&session);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
        // A client that was turned away reads nothing; its output tells.
        let _ = child.stdin.take().unwrap().write_all(request.as_bytes());
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let mut lines = text.lines();
        // The last ticket counts: in TLS 1.3 there is none before the first data.
        let mut tickets = lines.clone().filter(|line| line.contains("    0000 - "));
        let key = tickets.next_back().and_then(|line| line.get(11..58));
        Visit {
            is_resumed: lines.any(|line| line.starts_with("Reused, ")),
            key: key.map(str::to_owned),
            text,
        }
    }

    /// Waits until sessions that one node begins go on at all others.
    fn have_met(&self) {
        let mut number = 0;
        for (from, to) in [(0, 1), (1, 2), (2, 0)] {
            let met = eventually_blocking(MEET, || {
                number += 1;
                let session = format!("met{number}");
                let visit = |node| self.visit(node, Version::New, "a.example", &session);
                let _ = visit(from);
                visit(to).is_resumed
            });
            met.unwrap_or_else(|error| panic!("{from} and {to}: {error}\n{}", self.logs()));
        }
    }

    fn logs(&self) -> String {
        let running = self.nodes.iter().flatten();
        running.map(Proxy::log).collect::<Vec<_>>().join("\n---\n")
    }
}

/// Visitors with sessions of up to some seconds of age, by turns at all live nodes.
#[derive(Default)]
struct Crowd {
    visits: usize,
    /// When each visitor got the ticket that it has.
    since: BTreeMap<usize, Instant>,
    /// Visits with a session.
    asked: usize,
    /// Those of them that did not go on.
    failed: Vec<String>,
    /// The names of the keys of all tickets, in the order in which they came.
    keys: Vec<String>,
}

impl Crowd {
    const SESSIONS: usize = 16;

    fn visit(&mut self, cluster: &Cluster) {
        let live: Vec<_> = (0..3).filter(|it| cluster.nodes[*it].is_some()).collect();
        let slot = self.visits % Self::SESSIONS;
        // With every round each visitor comes to another node.
        let node = live[(slot + self.visits / Self::SESSIONS) % live.len()];
        self.visits += 1;
        self.visit_at(node, slot, cluster);
    }

    fn visit_at(&mut self, node: usize, slot: usize, cluster: &Cluster) {
        let version = Version::ALL[slot % 2];
        let session = format!("crowd{slot}");
        // In TLS 1.2 this client does not keep the ticket that a resumed session brings, so
        // its ticket becomes too old in time.
        let ticket = self.since.get(&slot).copied();
        let ticket = ticket.filter(|since| since.elapsed() < ROTATION);
        if ticket.is_none() {
            let _ = fs::remove_file(cluster.path(&session));
        }
        let visit = cluster.visit(node, version, "a.example", &session);
        if ticket.is_some() {
            self.asked += 1;
            if !visit.is_resumed {
                let failed = format!("visit {} at {node}: {}", self.visits, visit.text);
                self.failed.push(failed);
            }
        }
        if version == Version::New || !visit.is_resumed {
            self.since.insert(slot, Instant::now());
        }
        let known = &mut self.keys;
        known.extend(visit.key.filter(|key| !known.contains(key)));
    }

    /// Goes on until tickets of so many keys were seen.
    fn see(&mut self, keys: usize, cluster: &Cluster) {
        let end = Instant::now() + LONG;
        while self.keys.len() < keys {
            assert!(Instant::now() < end, "{}", cluster.logs());
            self.visit(cluster);
        }
    }
}

#[test]
fn sessions_resume_on_every_node_while_keys_change() {
    let mut cluster = Cluster::new();
    (0..3).for_each(|node| cluster.start(node));
    cluster.have_met();
    let mut crowd = Crowd::default();
    crowd.see(2, &cluster);
    // One is away while a key takes over and the next one is made.
    cluster.kill(2);
    crowd.see(3, &cluster);
    cluster.start(2);
    crowd.see(5, &cluster);
    while crowd.asked < 300 {
        crowd.visit(&cluster);
    }
    assert!(
        crowd.failed.len() * 100 <= crowd.asked,
        "{} of {}: {}\n{}",
        crowd.failed.len(),
        crowd.asked,
        crowd.failed.join("\n"),
        cluster.logs()
    );

    // All lose their power, and one comes back alone: what it had kept opens its own
    // tickets and those of the others.
    (0..3).for_each(|node| cluster.kill(node));
    cluster.start(1);
    let (asked, failed) = (crowd.asked, crowd.failed.len());
    (0..Crowd::SESSIONS).for_each(|slot| crowd.visit_at(1, slot, &cluster));
    assert!(crowd.asked > asked, "the start took too long");
    let failed = &crowd.failed[failed..];
    assert!(
        failed.is_empty(),
        "{}\n{}",
        failed.join("\n"),
        cluster.logs()
    );
}

#[test]
fn a_ticket_is_good_for_its_own_hosts_only() {
    let mut cluster = Cluster::new();
    (0..3).for_each(|node| cluster.start(node));
    cluster.have_met();
    let keys = (0..9).filter_map(|visit| {
        let session = format!("one{visit}");
        cluster
            .visit(visit % 3, Version::New, "a.example", &session)
            .key
    });
    let keys: BTreeSet<_> = keys.collect();
    // Two if they have just changed.
    assert!(
        (1..=2).contains(&keys.len()),
        "one key seals at a time: {keys:?}"
    );
    for version in Version::ALL {
        let session = |what: &str| format!("{what}{}", version.flag());
        // Under other options no session goes on, although the client tries, nor does
        // one of a host with the same options under another name.
        for (from, to) in [("a", "b"), ("b", "a"), ("a", "c")] {
            let [from, to] = [from, to].map(|host| format!("{host}.example"));
            let name = session(&format!("{from}-{to}"));
            assert!(!cluster.visit(0, version, &from, &name).is_resumed);
            assert!(cluster.visit(1, version, &from, &name).is_resumed);
            let visit = cluster.visit(2, version, &to, &name);
            assert!(!visit.is_resumed, "{from} {to}: {}", visit.text);
        }
        // Whoever may have to show a certificate has no ticket of the ring.
        let mutual = session("m");
        let first = cluster.visit(0, version, "m.example", &mutual);
        assert!(!first.is_resumed);
        for node in [1, 2] {
            let visit = cluster.visit(node, version, "m.example", &mutual);
            assert!(!visit.is_resumed, "{}", visit.text);
        }
        let elsewhere = session("m-a");
        cluster.visit(0, version, "m.example", &elsewhere);
        assert!(
            !cluster
                .visit(0, version, "a.example", &elsewhere)
                .is_resumed
        );
    }
}
