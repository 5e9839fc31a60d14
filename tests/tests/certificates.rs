//! Certificates for a whole cluster: several shipped proxies, a real authority (Pebble)
//! that looks at whichever of them the name's address says, and what they share.
//!
//! Proxies stand on 127.0.0.2, .3 and .4 with the same ports, as nodes do.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test: what goes wrong fails it"
)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use rustls::HandshakeKind;
use scenarios::client::Visitor;
use scenarios::pebble::{Options, Pebble};
use scenarios::process::Proxy;
use scenarios::{Scratch, client, eventually, ports};
use x509_parser::parse_x509_certificate;

/// From the start of the proxies to the last certificate, on a busy machine.
const ISSUE: Duration = Duration::from_secs(60);
/// From the first node that serves a certificate to the last.
const SPREAD: Duration = Duration::from_secs(2);

/// Nodes that share a directory, and the authority that they ask.
struct Cluster {
    pebble: Pebble,
    shared: Scratch,
    nodes: Vec<Node>,
}

struct Node {
    proxy: Proxy,
    tls: SocketAddr,
}

fn address(node: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, 2 + node).into()
}

/// A router for each of these names, served by nobody.
fn routes(names: &[String]) -> String {
    let routers: String = names
        .iter()
        .enumerate()
        .map(|(number, name)| {
            format!(
                "    r{number}: {{rule: 'Host(`{name}`)', entryPoints: [websecure], service: none, \
                 tls: {{certResolver: le}}}}\n"
            )
        })
        .collect();
    format!(
        "http:\n  routers:\n{routers}  services:\n    none: {{loadBalancer: {{servers: []}}}}\n"
    )
}

impl Cluster {
    fn new(names: usize) -> (Self, Vec<String>) {
        let names = (0..names).map(|it| format!("n{it}.example")).collect();
        let cluster = Self {
            pebble: Pebble::start(&Options::default()).unwrap(),
            shared: Scratch::new().unwrap(),
            nodes: Vec::new(),
        };
        (cluster, names)
    }

    fn storage(&self) -> PathBuf {
        self.shared.path().join("acme.json")
    }

    /// The nodes by turns are what the names lead to.
    async fn spread(&self, names: &[String], nodes: u8) {
        for (name, node) in names.iter().zip((0..nodes).cycle()) {
            self.pebble.point(name, &[address(node)]).await.unwrap();
        }
    }

    /// Starts one more node.
    fn add(&mut self, names: &[String], more: &[&str]) {
        let number = u8::try_from(self.nodes.len()).unwrap();
        let web = SocketAddr::new(address(number), self.pebble.http_port());
        let tls = SocketAddr::new(address(number), self.pebble.tls_port());
        let mut command = Proxy::command()
            .unwrap()
            .file("routes.yml", &routes(names))
            .unwrap();
        let arguments = [
            "--providers.file.filename=routes.yml".to_owned(),
            "--log.level=INFO".to_owned(),
            format!("--entrypoints.web.address={web}"),
            format!("--entrypoints.websecure.address={tls}"),
            "--certificatesresolvers.le.acme.email=me@example.com".to_owned(),
            format!(
                "--certificatesresolvers.le.acme.caserver={}",
                self.pebble.directory()
            ),
            format!(
                "--certificatesresolvers.le.acme.cacertificates={}",
                self.pebble.trusted_file().display()
            ),
            format!(
                "--certificatesresolvers.le.acme.storage={}",
                self.storage().display()
            ),
        ];
        for argument in arguments {
            command = command.arg(argument);
        }
        for argument in more {
            command = command.arg(*argument);
        }
        let proxy = command.ready_at(tls).start().unwrap();
        self.nodes.push(Node { proxy, tls });
    }

    fn logs(&self) -> String {
        let logs = self.nodes.iter().map(|node| node.proxy.log());
        format!(
            "{}\n{}",
            logs.collect::<Vec<_>>().join("\n---\n"),
            self.pebble.log()
        )
    }

    /// Waits until every node serves a certificate of the authority for each of the names,
    /// the same on all; fails if a node is late.
    async fn all_serve(&self, names: &[String]) {
        for name in names {
            let first = eventually(ISSUE, async || self.serial(0, name).await.is_some()).await;
            first.unwrap_or_else(|error| panic!("{name}: {error}\n{}", self.logs()));
            let expected = self.serial(0, name).await;
            for number in 1..self.nodes.len() {
                let same = eventually(SPREAD, async || self.serial(number, name).await == expected);
                let same = same.await;
                same.unwrap_or_else(|error| panic!("{name} on {number}: {error}\n{}", self.logs()));
            }
        }
    }

    /// The serial number of the authority's certificate that a node serves for a name.
    async fn serial(&self, node: usize, name: &str) -> Option<String> {
        let stream = client::tls(self.nodes[node].tls, name, b"http/1.1")
            .await
            .ok()?;
        let chain = stream.get_ref().1.peer_certificates()?;
        let (_, leaf) = parse_x509_certificate(chain.first()?).ok()?;
        let issuer = leaf.issuer().to_string();
        issuer
            .contains("Pebble")
            .then(|| leaf.raw_serial_as_string())
    }
}

/// Three nodes with nothing but a mount and Traefik's own flags in common.
async fn one_order_for_each_name(challenge: &str) {
    let (mut cluster, names) = Cluster::new(6);
    cluster.spread(&names, 3).await;
    for _ in 0..3 {
        cluster.add(&[], &[challenge]);
    }
    // Everybody is there before anybody is asked for.
    for node in &cluster.nodes {
        let written = node.proxy.scratch().write("routes.yml", &routes(&names));
        written.unwrap();
    }
    cluster.all_serve(&names).await;
    assert_eq!(cluster.pebble.orders(), names.len(), "{}", cluster.logs());
    assert_eq!(cluster.pebble.certificates(), names.len());
}

#[tokio::test]
async fn three_nodes_share_a_file_by_http_challenges() {
    one_order_for_each_name("--certificatesresolvers.le.acme.httpchallenge.entrypoint=web").await;
}

#[tokio::test]
async fn three_nodes_share_a_file_by_tls_challenges() {
    one_order_for_each_name("--certificatesresolvers.le.acme.tlschallenge=true").await;
}

#[tokio::test]
async fn a_node_that_comes_back_orders_nothing_again() {
    let (mut cluster, names) = Cluster::new(2);
    cluster.spread(&names, 1).await;
    let challenge = "--certificatesresolvers.le.acme.tlschallenge=true";
    cluster.add(&names, &[challenge]);
    cluster.all_serve(&names).await;
    let before = cluster.serial(0, &names[0]).await;
    drop(cluster.nodes.pop());
    cluster.add(&names, &[challenge]);
    cluster.all_serve(&names).await;
    assert_eq!(cluster.serial(0, &names[0]).await, before);
    assert_eq!(cluster.pebble.orders(), names.len(), "{}", cluster.logs());
}

/// Kills the proxy that orders, so long after it began, and lets two others finish.
async fn another_one_finishes(challenge: &str, after: Duration) {
    let (mut cluster, names) = Cluster::new(2);
    // Of those who stay.
    for name in &names {
        cluster.pebble.point(name, &[address(1)]).await.unwrap();
    }
    for _ in 0..3 {
        cluster.add(&[], &[challenge]);
    }
    let write = |node: &Node| {
        let scratch = node.proxy.scratch();
        scratch.write("routes.yml", &routes(&names)).unwrap();
    };
    write(&cluster.nodes[0]);
    let has_begun = async || {
        cluster.nodes[0]
            .proxy
            .log()
            .contains("Ordering a certificate")
    };
    eventually(ISSUE, has_begun).await.unwrap();
    cluster.nodes[1..].iter().for_each(write);
    tokio::time::sleep(after).await;
    // Dropping it kills it.
    drop(cluster.nodes.remove(0));
    cluster.all_serve(&names).await;
    let orders = cluster.pebble.orders();
    assert!(orders <= 2 * names.len(), "{orders}\n{}", cluster.logs());
}

#[tokio::test]
async fn the_death_of_the_one_that_orders_costs_one_more_order_at_most() {
    for eighth in 0..8 {
        let after = Duration::from_millis(90) * eighth;
        let challenge = "--certificatesresolvers.le.acme.httpchallenge.entrypoint=web";
        another_one_finishes(challenge, after).await;
    }
}

#[tokio::test]
async fn so_it_does_with_tls_challenges() {
    for eighth in 0..8 {
        let after = Duration::from_millis(90) * eighth;
        another_one_finishes("--certificatesresolvers.le.acme.tlschallenge=true", after).await;
    }
}

#[tokio::test]
async fn a_session_of_one_node_is_resumed_by_the_others() {
    let (mut cluster, _) = Cluster::new(0);
    let port = ports::free().unwrap();
    let secret = cluster
        .shared
        .write("secret", &"s3cret-".repeat(8))
        .unwrap();
    let peers: Vec<_> = (0..3).map(|it| format!("{}:{port}", address(it))).collect();
    for (number, address) in peers.iter().enumerate() {
        let arguments = [
            format!("--cluster.secretfile={}", secret.display()),
            format!("--cluster.address={address}"),
            format!("--cluster.peers={}", peers.join(",")),
            format!("--cluster.name=node{number}"),
        ];
        cluster.add(&[], &arguments.each_ref().map(String::as_str));
    }
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        let (from, to) = (cluster.nodes[from].tls, cluster.nodes[to].tls);
        let resumed = async || Visitor::is_resumed(from, to, "a.example").await.unwrap();
        let met = eventually(ISSUE, resumed).await;
        met.unwrap_or_else(|error| panic!("{error}\n{}", cluster.logs()));
    }
    let visitor = Visitor::new().unwrap();
    for visits in 0..60 {
        let to = cluster.nodes[visits % 3].tls;
        let (kind, _) = visitor.visit(to, "a.example", "/").await.unwrap();
        let is_resumed = kind == Some(HandshakeKind::Resumed);
        assert_eq!(
            is_resumed,
            visits > 0,
            "{visits}: {kind:?}\n{}",
            cluster.logs()
        );
    }
}
