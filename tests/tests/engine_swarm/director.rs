//! `deploy/tidegate.yml` as it is: what the directors make of a Swarm, and what a
//! container may set in its node's kernel.
//!
//! This machine's kernel may have no IPVS, so the directors decide everything
//! and touch nothing (`DRY_RUN=true`); receiving is done for real.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use anyhow::Context as _;
use scenarios::lab::{Image, Lab, Place, repository_file};
use scenarios::process::{Proxy, binary};
use scenarios::{client, eventually, eventually_blocking};
use serde_json::Value;

use crate::{SOON, at};

/// The virtual address, with the lab's prefix.
const VIP: &str = "198.18.7.100/24";

/// Where a stack's container finds what it may set.
const SETTING: &str = "/proc/sys/net/ipv4/conf/all/arp_ignore";

/// A lab of three managers with the stack on all of them.
fn deploy() -> anyhow::Result<Lab> {
    let lab = Lab::managers(3)?;
    lab.load_ours(&[Image::Proxy, Image::Director])?;
    let file = repository_file("deploy/tidegate.yml");
    let refused = lab.deploy("tidegate", &file, &[]);
    let refused = format!("{:#}", refused.err().context("no VIP, and no complaint")?);
    anyhow::ensure!(refused.contains("VIP=192.0.2.10/24"), "{refused}");
    lab.deploy("tidegate", &file, &[("VIP", VIP), ("DRY_RUN", "true")])?;
    Ok(lab)
}

/// What a node's director answers to a verb, in its container.
fn tool(lab: &Lab, node: u8, words: &[&str]) -> anyhow::Result<String> {
    let find = ["ps", "-qf", "name=tidegate_director"];
    let id = lab.docker_ok(node, &find)?;
    let command = ["exec", id.trim(), "/tidegate-director"];
    lab.docker_ok(node, &[&command, words].concat())
}

/// The nodes that a director knows, with their names and what becomes of them.
fn nodes(status: &str) -> anyhow::Result<BTreeMap<String, String>> {
    let status: Value = serde_json::from_str(status)?;
    let nodes = status.pointer("/nodes").and_then(Value::as_array);
    let text = |node: &Value, key: &str| {
        let text = node.get(key).and_then(Value::as_str);
        text.unwrap_or("-").to_owned()
    };
    let nodes = nodes.into_iter().flatten();
    let nodes = nodes.map(|node| {
        let name = format!("{} {}", text(node, "name"), text(node, "address"));
        (name, text(node, "stance"))
    });
    Ok(nodes.collect())
}

/// Waits until the directors on `asked` hold this of the three nodes.
fn settle(lab: &Lab, asked: &[u8], wanted: [&str; 3]) {
    let names = [1_u8, 2, 3].map(|number| format!("node{number} 198.18.7.1{number}"));
    let wanted: BTreeMap<_, _> = names
        .into_iter()
        .zip(wanted.map(ToOwned::to_owned))
        .collect();
    for &node in asked {
        let said = || nodes(&tool(lab, node, &["status", "--json"])?);
        let is_so = || said().is_ok_and(|said| said == wanted);
        let settled = eventually_blocking(SOON, is_so);
        settled
            .with_context(|| format!("node {node}: {:?}, not {wanted:?}", said()))
            .unwrap();
    }
}

#[test]
#[ignore = "needs Docker engines"]
fn directors_follow_the_swarm() {
    let lab = deploy().unwrap();
    settle(&lab, &[1, 2, 3], ["ready"; 3]);
    let words = tool(&lab, 1, &["status"]).unwrap();
    for part in ["dry run", VIP, "80/tcp, 443/tcp", "node3", "swarm"] {
        assert!(words.contains(part), "no {part:?} in\n{words}");
    }

    let availability = |word| {
        let update = ["node", "update", "--availability", word, "node3"];
        lab.docker_ok(1, &update).unwrap();
    };
    availability("drain");
    settle(&lab, &[1, 2], ["ready", "ready", "draining"]);
    availability("active");
    settle(&lab, &[1, 2, 3], ["ready"; 3]);
    availability("pause");
    settle(&lab, &[1, 2, 3], ["ready", "ready", "draining"]);
    availability("active");
    settle(&lab, &[1, 2, 3], ["ready"; 3]);

    lab.kill(3).unwrap();
    // The Swarm ends the tasks of a node it lost: still no more than a hint.
    settle(&lab, &[1, 2], ["ready", "ready", "down"]);
    lab.restart(3).unwrap();
    settle(&lab, &[1, 2, 3], ["ready"; 3]);

    lab.docker_ok(1, &["service", "rm", "tidegate_proxy"])
        .unwrap();
    let complaint = "the Swarm has no service \"tidegate_proxy\"";
    let complains = || {
        tool(&lab, 1, &["status", "--json"])
            .is_ok_and(|it| it.contains(&complaint.replace('"', "\\\"")))
    };
    eventually_blocking(SOON, complains).unwrap();
    settle(&lab, &[1], ["ready"; 3]);
}

/// A director beside an engine and not on it, as that engine's end is its own.
fn outside(lab: &Lab) -> anyhow::Result<Proxy> {
    let director = Proxy::program(binary("tidegate-director")?)?;
    let docker = format!("--docker=unix://{}", lab.socket(2).display());
    let flags = [
        "--dry-run",
        "--check=none",
        "--swarm=tidegate_proxy",
        "--socket=socket",
    ];
    let director = flags.into_iter().fold(director, |it, flag| it.arg(flag));
    let director = director.arg(format!("--vip={VIP}")).arg(docker);
    director.ready_when_it_says("Running").start()
}

#[test]
#[ignore = "needs Docker engines"]
fn the_last_list_outlives_the_manager() {
    let lab = deploy().unwrap();
    settle(&lab, &[2], ["ready"; 3]);
    let director = outside(&lab).unwrap();
    let socket = director.scratch().path().join("socket");
    let status = || -> anyhow::Result<String> {
        let mut command = Command::new(binary("tidegate-director")?);
        let command = command.args(["status", "--json", "--socket"]).arg(&socket);
        Ok(String::from_utf8(command.output()?.stdout)?)
    };
    let knows = |count| {
        status()
            .and_then(|it| nodes(&it))
            .is_ok_and(|it| it.len() == count)
    };
    eventually_blocking(SOON, || knows(3)).unwrap();

    lab.kill(2).unwrap();
    let swarm = |key: &str| -> Option<Value> {
        let status: Value = serde_json::from_str(&status().ok()?).ok()?;
        status.pointer(&format!("/sources/0/{key}")).cloned()
    };
    let is_old = || {
        let age = swarm("age").and_then(|it| it.as_f64());
        age.is_some_and(|age| age > 8.0) && swarm("error").is_some_and(|it| it.is_string())
    };
    eventually_blocking(SOON, is_old).unwrap();
    assert!(knows(3), "{:?}", status());
    lab.restart(2).unwrap();
    eventually_blocking(SOON, || swarm("error").is_some_and(|it| it.is_null())).unwrap();
}

/// The stack's way of writing the node's settings, with the least rights, in a
/// node's own network: this machine's settings stay as they are.
#[test]
#[ignore = "needs Docker engines"]
fn a_container_receives_for_its_node() {
    let ours = fs::read_to_string(SETTING).unwrap();
    let lab = deploy().unwrap();
    settle(&lab, &[2], ["ready"; 3]);
    let run = "run -d --name receiver --network host --cap-add NET_ADMIN --cap-add NET_RAW \
        -v /proc/sys/net:/host/proc/sys/net tidegate/director:latest --role receiver \
        --proc-sys /host/proc/sys --receiver-device lo --socket /tmp/receiver --vip";
    let words: Vec<_> = run.split_whitespace().chain([VIP]).collect();
    lab.docker_ok(2, &words).unwrap();
    let look = |command: &str| {
        let words: Vec<_> = command.split(' ').collect();
        let output = lab.exec(Place::Node(2), &words).unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let is_hushed = || look(&format!("cat {SETTING}")).trim() == "1";
    let holds = || look("ip addr show dev lo").contains("198.18.7.100/32");
    eventually_blocking(SOON, || is_hushed() && holds()).unwrap();

    // What is sent to the virtual address is for the proxy's published port.
    let link = look("cat /sys/class/net/eth0/address");
    let neighbour = format!(
        "ip neigh replace 198.18.7.100 dev eth0 lladdr {}",
        link.trim()
    );
    let words: Vec<_> = neighbour.split(' ').collect();
    lab.exec(Place::Client, &words).unwrap();
    let served = lab.inside(Place::Client, || {
        eventually(SOON, async || {
            let vip = (std::net::Ipv4Addr::new(198, 18, 7, 100), 8080).into();
            let answer = client::get(vip, "any.test", "/ping").await;
            answer.is_ok_and(|answer| answer.status() == 200)
        })
    });
    served.unwrap();

    lab.docker_ok(2, &["stop", "receiver"]).unwrap();
    assert!(!is_hushed() && !holds(), "it leaves nothing behind");
    assert_eq!(fs::read_to_string(SETTING).unwrap(), ours);
    let direct = lab.inside(Place::Client, async || {
        client::get(at(2, 8080), "any.test", "/ping").await
    });
    assert_eq!(direct.unwrap().status(), 200);
}
