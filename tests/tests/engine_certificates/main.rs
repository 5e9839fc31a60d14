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
    stage.raise(&[front], &[("CERTS", certs)]);
    stage.all_are_served(&stage.site(scene, &["le"]));
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

/// The shipped file, and a second resolver with the other challenge in the same store.
fn cluster(stage: &Stage) -> [Front; 2] {
    let prefix = "      TIDEGATE_CERTIFICATESRESOLVERS_ALPN_ACME_";
    let settings = [
        ("EMAIL", "${ACME_EMAIL}"),
        ("CASERVER", "${ACME_SERVER}"),
        ("STORAGE", "${STORAGE:-swarm:}"),
        ("TLSCHALLENGE", "true"),
    ];
    let settings = settings.map(|(name, value)| format!("{prefix}{name}: \"{value}\"\n"));
    let head = "version: \"3.7\"\nservices:\n  proxy:\n    environment:\n";
    let text = format!("{head}{}", settings.concat());
    let second = stage.front("alpn.yml", &text).unwrap();
    [Front::shipped("cluster.yml"), second]
}

fn etcd_keeps_them(stage: &Stage) {
    let (_running, location) = etcd(&stage.lab).unwrap();
    let storage = ("STORAGE", &*location);
    stage.raise(&cluster(stage).each_ref(), &[storage, EVERYWHERE]);
    stage.all_are_served(&stage.site("etcd", &["le", "alpn"]));
    stage.clear();
}

/// And a node that stops being a manager goes on by what the others tell it.
fn the_swarm_keeps_them(stage: &Stage) {
    stage.raise(&cluster(stage).each_ref(), &[EVERYWHERE]);
    let site = stage.site("swarm", &["le", "alpn"]);
    stage.all_are_served(&site);

    stage.demote(3);
    stage.restart_proxy(3);
    stage.still_serves(3, &site);
    let last = stage.one_more(&site, 3);
    stage.all_are_served(&last);
}
