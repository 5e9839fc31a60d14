//! Certificates on a real Swarm of three nodes: DockerLab's front with its own files for
//! ACME, an authority outside the Swarm that looks at whichever node a name leads to, and
//! each of the three stores.
//!
//! Needs root and Docker's programs; run by `./test` with `--ignored`. The scenes share a
//! lab, since engines are slow to start.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test: what goes wrong fails it"
)]

mod stage;

use scenarios::Scratch;

use stage::{Front, Stage, etcd};

/// Names of a scene: two for each node.
const NAMES: u8 = 6;

/// What lets proxies stand on workers, too.
const EVERYWHERE: (&str, &str) = ("PROXY_NODES", "node.platform.os == linux");

#[test]
#[ignore = "needs Docker engines"]
fn three_nodes_order_each_certificate_once() {
    let stage = Stage::set().unwrap();
    a_mount_is_enough(&stage, "http", &Front::shipped("acme.yml"));
    a_mount_is_enough(&stage, "tls", &by_tls_challenges(&stage));
    etcd_keeps_them(&stage);
    the_swarm_keeps_them(&stage);
}

/// Nothing but a directory and Traefik's own flags in common.
fn a_mount_is_enough(stage: &Stage, scene: &str, front: &Front) {
    let shared = Scratch::new().unwrap();
    let certs = shared.path().to_str().unwrap();
    stage.raise(front, &[("CERTS", certs)]);
    stage.all_are_served(&stage.site(scene, NAMES));
    stage.clear();
}

/// The shipped file, changed as it says.
fn by_tls_challenges(stage: &Stage) -> Front {
    let flag = |what: &str| format!("      - --certificatesresolvers.le.acme.{what}\n");
    let http = [flag("httpchallenge"), flag("httpchallenge.entrypoint=http")];
    let shipped = Front::shipped("acme.yml").text().unwrap();
    let changed = shipped.replace(&http.concat(), &flag("tlschallenge=true"));
    assert_ne!(changed, shipped);
    stage.front("tls.yml", &changed).unwrap()
}

fn etcd_keeps_them(stage: &Stage) {
    let (_running, location) = etcd(&stage.lab).unwrap();
    let storage = ("STORAGE", &*location);
    stage.raise(&Front::shipped("cluster.yml"), &[storage, EVERYWHERE]);
    stage.all_are_served(&stage.site("etcd", NAMES));
    stage.clear();
}

/// And a node that stops being a manager goes on by what the others tell it.
fn the_swarm_keeps_them(stage: &Stage) {
    stage.raise(&Front::shipped("cluster.yml"), &[EVERYWHERE]);
    let site = stage.site("swarm", NAMES);
    stage.all_are_served(&site);

    stage.demote(3);
    stage.restart_proxy(3);
    stage.still_serves(3, &site);
    let last = stage.one_more(&site, 3);
    stage.all_are_served(&last);
}
