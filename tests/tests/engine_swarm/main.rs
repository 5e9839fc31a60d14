//! The proxy and the director on real Swarms: stacks as they are, changes under load,
//! an engine that goes away.
//!
//! Needs root and Docker's programs; run by `./test` with `--ignored`.

#![expect(clippy::unwrap_used, reason = "tests: what fails, fails them")]

mod away;
mod changes;
mod director;
mod dockerlab;
mod load;
mod watch;

use std::net::SocketAddr;
use std::time::Duration;

use scenarios::lab::{Lab, Place, repository_file};
use scenarios::{client, eventually};

/// Longer than anything here takes on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// The name of DockerLab's site.
const SITE: &str = "www.dockerlab.test";

/// A node's address at a port.
fn at(node: u8, port: u16) -> SocketAddr {
    (Place::Node(node).address(), port).into()
}

/// Deploys DockerLab's front on every node of the lab.
fn deploy_front(lab: &Lab) -> anyhow::Result<()> {
    lab.deploy("proxy", &repository_file("deploy/dockerlab/proxy.yml"), &[])
}

/// Waits until the site answers over TLS on every node.
fn wait_for_site(lab: &Lab) -> anyhow::Result<Duration> {
    let serves = async || {
        for node in 1..=lab.nodes() {
            let answer = client::get_tls(at(node, 443), SITE, "/").await;
            if answer.and_then(|answer| load::signature(&answer)).is_err() {
                return false;
            }
        }
        true
    };
    lab.inside(Place::Client, || eventually(SOON, serves))
}

/// What the proxies' containers have written, all nodes' together.
fn logs_of_proxies(lab: &Lab) -> anyhow::Result<String> {
    lab.logs("proxy_proxy")
}
