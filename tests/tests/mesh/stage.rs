//! Three proxies that know each other by a list.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use scenarios::process::Proxy;
use scenarios::site::{Routes, Site};
use scenarios::{Scratch, eventually, ports};
use serde_json::Value;

/// Longer than anything here takes on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// A secret's text, made of a letter.
pub(crate) fn secret(letter: char) -> String {
    letter.to_string().repeat(44)
}

/// A member and where it serves.
pub(crate) struct Node {
    pub(crate) site: Site,
    pub(crate) tls: SocketAddr,
    pub(crate) mesh: SocketAddr,
}

/// Where members stand, and what outlives each of their processes.
pub(crate) struct Stage {
    pub(crate) port: u16,
    pub(crate) tls: u16,
    pub(crate) files: Scratch,
}

/// A member's own address: members have the same ports, as nodes do.
pub(crate) fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, 2 + number).into()
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self {
            port: ports::free().unwrap(),
            tls: ports::free().unwrap(),
            files: Scratch::new().unwrap(),
        }
    }

    /// Starts member `number` with a secret, and one more that it accepts.
    pub(crate) async fn start(&self, number: u8, now: char, before: Option<char>) -> Node {
        let write = |letter: char| {
            let name = format!("secret-{letter}");
            self.files.write(&name, &secret(letter)).unwrap()
        };
        let mesh = SocketAddr::new(address(number), self.port);
        let tls = SocketAddr::new(address(number), self.tls);
        let peers: Vec<_> = (0..3)
            .map(|it| format!("{}:{}", address(it), self.port))
            .collect();
        let mut arguments = vec![
            format!("--entrypoints.websecure.address={tls}"),
            "--entrypoints.websecure.http.tls=true".to_owned(),
            format!("--cluster.secretfile={}", write(now).display()),
            format!("--cluster.address={mesh}"),
            format!("--cluster.peers={}", peers.join(",")),
            format!("--cluster.name=node{number}"),
            format!(
                "--cluster.statefile={}",
                self.files.path().join(format!("state-{number}")).display()
            ),
        ];
        if let Some(before) = before {
            let before = write(before);
            arguments.push(format!("--cluster.previoussecretfile={}", before.display()));
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let command = Proxy::command().unwrap();
        let command = command.file("routes.yml", &Routes::default().text());
        let site = Site::start_command(command.unwrap(), &arguments).await;
        let site = site.unwrap();
        Node { site, tls, mesh }
    }

    /// Three members that know each other.
    pub(crate) async fn three(&self, now: char) -> Vec<Node> {
        let mut nodes = Vec::new();
        for number in 0..3 {
            nodes.push(self.start(number, now, None).await);
        }
        all_meet(&nodes).await;
        nodes
    }
}

/// Waits until every member is connected with all others.
pub(crate) async fn all_meet(nodes: &[Node]) {
    let others = nodes.len() - 1;
    for node in nodes {
        let met = eventually(SOON, async || {
            node.live().await.is_ok_and(|it| it == others)
        })
        .await;
        met.unwrap_or_else(|error| panic!("{error}\n{}", logs(nodes)));
    }
}

pub(crate) fn logs(nodes: &[Node]) -> String {
    let logs = nodes.iter().map(|node| node.site.proxy.log());
    logs.collect::<Vec<_>>().join("\n---\n")
}

impl Node {
    /// What the API says at a path.
    pub(crate) async fn api(&self, path: &str) -> anyhow::Result<Value> {
        let text = self.site.admin_text(path).await?;
        Ok(serde_json::from_str(&text)?)
    }

    /// How many other members it can reach, by its API.
    pub(crate) async fn live(&self) -> anyhow::Result<usize> {
        let cluster = self.api("/api/cluster").await?;
        let members = cluster["members"].as_array().context("no members")?;
        Ok(members.iter().filter(|it| it["status"] == "live").count())
    }

    /// A metric of the mesh.
    pub(crate) async fn metric(&self, name: &str, labels: &str) -> f64 {
        let name = format!("tidegate_mesh_{name}");
        self.site.metric(&name, labels).await.unwrap()
    }

    /// How many connections it refused for a reason.
    pub(crate) async fn refused(&self, reason: &str) -> f64 {
        self.metric("refused_total", &format!("reason=\"{reason}\""))
            .await
    }
}
