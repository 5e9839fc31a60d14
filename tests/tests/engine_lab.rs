//! The lab itself on real engines: a Swarm comes up, a stack with host-mode
//! ports serves, a dead node comes back, nothing stays behind.
//!
//! Needs root and Docker's programs; run by `./test` with `--ignored`.

use std::time::Duration;

use scenarios::lab::{Image, Lab, Place};
use scenarios::{Scratch, client, eventually};

const SOON: Duration = Duration::from_secs(60);

const STACK: &str = r#"
version: "3.8"
services:
  site:
    image: tidegate/demo:latest
    hostname: "{{.Node.Hostname}}"
    networks: [wide]
    ports: [{target: 80, published: 80, mode: host}]
    deploy: {mode: global, endpoint_mode: dnsrr}
networks:
  wide: {driver: overlay}
"#;

async fn signs_as(node: u8) -> bool {
    let address = (Place::Node(node).address(), 80).into();
    let Ok(answer) = client::get(address, "site.test", "/").await else {
        return false;
    };
    answer
        .headers()
        .get("x-demo-name")
        .is_some_and(|name| *name == *format!("node{node}"))
}

#[test]
#[ignore = "needs Docker engines"]
fn a_swarm_serves_on_every_node_and_survives_a_power_cut() {
    let scratch = Scratch::new().unwrap();
    let lab = Lab::swarm(2).unwrap();
    let names = lab
        .docker_ok(1, &["node", "ls", "--format", "{{.Hostname}}"])
        .unwrap();
    let mut names: Vec<_> = names.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["node1", "node2"]);

    lab.load_ours(&[Image::Demo]).unwrap();
    let stack = scratch.write("stack.yml", STACK).unwrap();
    lab.deploy("lab", &stack, &[]).unwrap();
    let both_serve = || async { signs_as(1).await && signs_as(2).await };
    lab.inside(Place::Client, || eventually(SOON, both_serve))
        .unwrap();

    lab.kill(2).unwrap();
    let dead = || async {
        client::get((Place::Node(2).address(), 80).into(), "site.test", "/")
            .await
            .is_err()
            && signs_as(1).await
    };
    lab.inside(Place::Client, || eventually(SOON, dead))
        .unwrap();
    lab.restart(2).unwrap();
    lab.inside(Place::Client, || eventually(SOON, both_serve))
        .unwrap();
}

#[test]
#[ignore = "needs Docker engines"]
fn a_lab_leaves_nothing_behind() {
    let lab = Lab::engine().unwrap();
    let socket = lab.socket(1);
    assert!(socket.exists());
    assert!(
        !lab.docker(1, &["node", "ls"]).unwrap().status.success(),
        "not in a Swarm"
    );
    let prefix = format!("tg-{}-", lab.name());
    drop(lab);
    assert!(!socket.exists());
    let spaces = std::fs::read_dir("/run/netns").unwrap();
    let left = spaces
        .flatten()
        .filter(|space| space.file_name().to_string_lossy().starts_with(&prefix));
    assert_eq!(left.count(), 0);
}
