//! The lab, the authority beside it, and what is seen from outside.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
use std::{fs, io};

use futures_util::future::join_all;
use scenarios::lab::{Image, Lab, Place, repository_file};
use scenarios::pebble::{Options, Pebble};
use scenarios::process::Proxy;
use scenarios::{Scratch, client, eventually, eventually_blocking};
use tokio::time::{Instant, sleep};
use x509_parser::parse_x509_certificate;

/// Longer than anything here takes on a busy machine.
const SOON: Duration = Duration::from_secs(90);

/// From the first node that serves a certificate to the last.
const SPREAD: Duration = Duration::from_secs(2);

/// How often every node is asked for what it has not served yet.
const PACE: Duration = Duration::from_millis(50);

/// Where the authority is, and etcd.
const OUTSIDE: Place = Place::Guest(1);

/// Names for each resolver: two for each node.
const NAMES: usize = 6;

/// The nodes, all of them managers in the beginning.
const NODES: u8 = 3;

/// What every proxy needs for an authority that the world does not know.
const TRUST: &str = r#"
version: "3.7"
services:
  proxy:
    environment: {LEGO_CA_CERTIFICATES: /authority.pem}
    configs: [{source: authority, target: /authority.pem}]
configs:
  authority: {file: AUTHORITY}
"#;

/// A file over DockerLab's front.
#[derive(Debug)]
pub(crate) struct Front(PathBuf);

/// Names that a site's routers want certificates for.
#[derive(Debug)]
pub(crate) struct Site {
    scene: String,
    /// In the order of their routers.
    names: Vec<String>,
    /// Each has six in a row.
    resolvers: &'static [&'static str],
    /// How many of them have certificates already.
    known: usize,
    /// The authority's orders before it was asked for the others.
    orders: usize,
}

/// What one node showed for one name.
#[derive(Debug)]
struct Seen {
    node: u8,
    name: String,
    serial: String,
    at: Instant,
}

#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) lab: Lab,
    pebble: Pebble,
    scratch: Scratch,
}

impl Front {
    /// As it is in `deploy/dockerlab`.
    pub(crate) fn shipped(name: &str) -> Self {
        Self(repository_file("deploy/dockerlab").join(name))
    }

    pub(crate) fn text(&self) -> io::Result<String> {
        fs::read_to_string(&self.0)
    }
}

/// A node's address at a port.
fn at(node: u8, port: u16) -> SocketAddr {
    (Place::Node(node).address(), port).into()
}

/// One member of etcd, and how a store names it.
pub(crate) fn etcd(lab: &Lab) -> anyhow::Result<(Proxy, String)> {
    let address = SocketAddr::new(OUTSIDE.address(), 2379);
    let (client, peer) = (format!("http://{address}"), "http://127.0.0.1:2380");
    let running = lab.inside(OUTSIDE, async || {
        let mut command = Proxy::program("/usr/bin/etcd".into())?.arg("--unsafe-no-fsync");
        for (flag, value) in [
            ("--data-dir", "data"),
            ("--listen-client-urls", &client),
            ("--advertise-client-urls", &client),
            ("--listen-peer-urls", peer),
            ("--initial-advertise-peer-urls", peer),
            ("--initial-cluster", &format!("default={peer}")),
        ] {
            command = command.arg(flag).arg(value);
        }
        command.ready_at(address).start()
    })?;
    Ok((running, format!("etcd://{address}/lab")))
}

impl Stage {
    /// Three managers, the authority, the cluster's secret.
    pub(crate) fn set() -> anyhow::Result<Self> {
        let scratch = Scratch::new()?;
        let lab = Lab::managers(NODES)?;
        lab.plug(OUTSIDE)?;
        lab.load_ours(&[Image::Proxy, Image::Demo])?;
        let options = Options {
            address: Some(OUTSIDE.address()),
            http_port: Some(80),
            tls_port: Some(443),
            ..Options::default()
        };
        let pebble = lab.inside(OUTSIDE, async || Pebble::start(&options))?;
        let authority = pebble.trusted_file().display().to_string();
        scratch.write("trust.yml", &TRUST.replace("AUTHORITY", &authority))?;
        let secret: String = (0..8)
            .map(|_| format!("{:08x}", fastrand::u32(..)))
            .collect();
        let secret = scratch.write("secret", &secret)?.display().to_string();
        lab.docker_ok(1, &["secret", "create", "tidegate-cluster", &secret])?;
        Ok(Self {
            lab,
            pebble,
            scratch,
        })
    }

    /// A file of the test's own over DockerLab's front.
    pub(crate) fn front(&self, name: &str, text: &str) -> io::Result<Front> {
        self.scratch.write(name, text).map(Front)
    }

    /// Deploys the front and waits until each node has a proxy.
    pub(crate) fn raise(&self, front: &[&Front], variables: &[(&str, &str)]) {
        let directory = self.pebble.directory();
        let mut all = vec![
            ("ACME_EMAIL", "me@example.com"),
            ("ACME_SERVER", &directory),
        ];
        all.extend(variables);
        let base = repository_file("deploy/dockerlab/proxy.yml");
        let trust = self.scratch.path().join("trust.yml");
        let mut files = vec![&*base, &*trust];
        files.extend(front.iter().map(|file| &*file.0));
        self.lab.deploy_all("proxy", &files, &all).unwrap();
        (1..=NODES).for_each(|node| self.wait_for_proxy(node));
    }

    fn wait_for_proxy(&self, node: u8) {
        let has_resolver = async || {
            let answer = client::get(at(node, 8080), "any.test", "/api/resolvers").await;
            answer.is_ok_and(|answer| answer.status() == 200)
        };
        let up = || eventually(SOON, has_resolver);
        let up = self.lab.inside(Place::Client, up);
        up.unwrap_or_else(|error| panic!("node {node}: {error}\n{}", self.logs()));
    }

    /// Takes the front and the site away.
    pub(crate) fn clear(&self) {
        let services = ["service", "rm", "proxy_proxy", "site_web"];
        self.lab.docker_ok(1, &services).unwrap();
        let is_empty = |node| self.lab.docker_ok(node, &["ps", "-aq"]).unwrap().is_empty();
        eventually_blocking(SOON, || (1..=NODES).all(is_empty)).unwrap();
    }

    /// Deploys DockerLab's site with routers for six names of each resolver, which lead to
    /// the nodes by turns.
    pub(crate) fn site(&self, scene: &str, resolvers: &'static [&'static str]) -> Site {
        let names = (0..NAMES * resolvers.len()).map(|it| format!("n{it}.{scene}.test"));
        let site = Site {
            scene: scene.to_owned(),
            names: names.collect(),
            resolvers,
            known: 0,
            orders: self.pebble.orders(),
        };
        for (name, node) in site.names.iter().zip((1..=NODES).cycle()) {
            self.point(name, node);
        }
        self.deploy(&site);
        site
    }

    /// The site with one more name, which leads to `node`.
    pub(crate) fn one_more(&self, site: &Site, node: u8) -> Site {
        let mut more = Site {
            scene: site.scene.clone(),
            names: site.names.clone(),
            resolvers: site.resolvers,
            known: site.names.len(),
            orders: self.pebble.orders(),
        };
        more.names.push(format!("more.{}.test", site.scene));
        self.point(more.names.last().unwrap(), node);
        self.deploy(&more);
        more
    }

    fn point(&self, name: &str, node: u8) {
        let address = [Place::Node(node).address()];
        let pointed = || self.pebble.point(name, &address);
        self.lab.inside(OUTSIDE, pointed).unwrap();
    }

    fn deploy(&self, site: &Site) {
        let shipped = repository_file("deploy/dockerlab/site.yml");
        let file = format!("{}.yml", site.scene);
        let routers = self.scratch.write(&file, &routers(site)).unwrap();
        let host = ("SITE_HOST", &*site.names[0]);
        let files = [&*shipped, &*routers];
        self.lab.deploy_all("site", &files, &[host]).unwrap();
    }

    /// Waits until every node serves the authority's certificate for each name; fails if one
    /// of them is late, if they differ, or if there were more orders than names.
    pub(crate) fn all_are_served(&self, site: &Site) {
        let watching = || watch(&site.names[site.known..]);
        let seen = self.lab.inside(Place::Client, watching).unwrap();
        let expected = site.names.len() - site.known;
        assert_eq!(
            seen.len(),
            expected * usize::from(NODES),
            "{seen:?}\n{}",
            self.logs()
        );
        for name in &site.names[site.known..] {
            let of_name: Vec<_> = seen.iter().filter(|it| it.name == *name).collect();
            let first = of_name.iter().map(|it| it.at).min().unwrap();
            for one in &of_name {
                let late = one.at - first;
                assert_eq!(one.serial, of_name[0].serial, "{name} on {}", one.node);
                assert!(
                    late <= SPREAD,
                    "{name}: {late:?} on {}\n{}",
                    one.node,
                    self.logs()
                );
            }
        }
        let orders = self.pebble.orders() - site.orders;
        assert_eq!(orders, expected, "{}", self.logs());
        self.answers(site);
    }

    /// Every node answers for the names, through to the site's servers.
    fn answers(&self, site: &Site) {
        let name = site.names.last().unwrap();
        let answers = async || {
            let nodes = (1..=NODES).map(|node| client::get_tls(at(node, 443), name, "/"));
            let all = join_all(nodes).await;
            all.into_iter()
                .all(|answer| answer.is_ok_and(|answer| answer.status() == 200))
        };
        let answers = || eventually(SOON, answers);
        self.lab.inside(Place::Client, answers).unwrap();
    }

    /// Makes a worker of a manager.
    pub(crate) fn demote(&self, node: u8) {
        let name = format!("node{node}");
        self.lab.docker_ok(1, &["node", "demote", &name]).unwrap();
        let is_worker = || {
            !self
                .lab
                .docker(node, &["node", "ls"])
                .unwrap()
                .status
                .success()
        };
        eventually_blocking(SOON, is_worker).unwrap();
    }

    /// Ends a node's proxy; the Swarm starts another.
    pub(crate) fn restart_proxy(&self, node: u8) {
        let find = ["ps", "-q", "--filter", "name=proxy_proxy"];
        let find = || self.lab.docker_ok(node, &find).unwrap();
        let before = find();
        self.lab.docker_ok(node, &["kill", before.trim()]).unwrap();
        let is_new = || !find().trim().is_empty() && find() != before;
        eventually_blocking(SOON, is_new).unwrap();
        self.wait_for_proxy(node);
    }

    /// A node serves the certificates of all names, and routes by them.
    pub(crate) fn still_serves(&self, node: u8, site: &Site) {
        let serves = async || {
            let names = site.names.iter().map(|name| async move {
                let answer = client::get_tls(at(node, 443), name, "/").await;
                serial(node, name).await.is_some() && answer.is_ok_and(|it| it.status() == 200)
            });
            join_all(names).await.into_iter().all(|it| it)
        };
        let served = || eventually(SOON, serves);
        let served = self.lab.inside(Place::Client, served);
        served.unwrap_or_else(|error| panic!("node {node}: {error}\n{}", self.logs()));
    }

    fn logs(&self) -> String {
        let proxies = self.lab.logs("proxy_proxy").unwrap_or_default();
        format!("{proxies}\n---- Pebble\n{}", self.pebble.log())
    }
}

/// More routers for DockerLab's site; the first name has one there.
fn routers(site: &Site) -> String {
    let mut labels = String::new();
    let mut label = |router: &str, rest: &str| {
        labels += &format!("        - traefik.http.routers.{router}.{rest}\n");
    };
    let resolvers = site.resolvers.iter().flat_map(|it| [*it; NAMES]).cycle();
    for (number, (name, resolver)) in site.names.iter().zip(resolvers).enumerate() {
        let own = format!("r{number}");
        let router = if number == 0 { "site-tls" } else { &own };
        label(router, &format!("tls.certresolver={resolver}"));
        if number > 0 {
            label(router, &format!("rule=Host(`{name}`)"));
            label(router, "entrypoints=https");
        }
    }
    format!("version: \"3.7\"\nservices:\n  web:\n    deploy:\n      labels:\n{labels}")
}

/// When each node served the authority's certificate for each name first; incomplete when
/// time is up.
async fn watch(names: &[String]) -> anyhow::Result<Vec<Seen>> {
    let start = Instant::now();
    let nodes = 1..=NODES;
    let mut left: Vec<_> = nodes
        .flat_map(|node| names.iter().map(move |name| (node, name)))
        .collect();
    let mut seen = Vec::new();
    while !left.is_empty() && start.elapsed() < SOON {
        let looks = left.into_iter().map(async |(node, name)| {
            let serial = serial(node, name).await;
            (node, name, serial, Instant::now())
        });
        left = Vec::new();
        for (node, name, serial, at) in join_all(looks).await {
            let Some(serial) = serial else {
                left.push((node, name));
                continue;
            };
            let name = name.clone();
            seen.push(Seen {
                node,
                name,
                serial,
                at,
            });
        }
        sleep(PACE).await;
    }
    Ok(seen)
}

/// The serial number of the authority's certificate that a node shows for a name.
async fn serial(node: u8, name: &str) -> Option<String> {
    let stream = client::tls(at(node, 443), name, b"http/1.1").await.ok()?;
    let chain = stream.get_ref().1.peer_certificates()?;
    let (_, leaf) = parse_x509_certificate(chain.first()?).ok()?;
    let names = leaf.subject_alternative_name().ok()??;
    let is_right = leaf.issuer().to_string().contains("Pebble")
        && format!("{:?}", names.value.general_names) == format!("[DNSName({name:?})]");
    is_right.then(|| leaf.raw_serial_as_string())
}
