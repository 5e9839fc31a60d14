//! Meshes on loopback, each on a thread of its own, that can be killed like a process.

mod hostile;
mod scene;

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use self::scene::{Node, Wire, introduce, secrets, within};
use super::*;
use crate::cluster::memory::AnswerWith;

const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn what_one_says_all_hear() {
    let nodes = ["a", "b", "c"].map(|name| Node::start(name, &secrets(1, None)));
    introduce(&nodes);
    let [a, b, c] = &nodes;
    a.mesh.publish("t", Bytes::from_static(b"1"));
    for node in [b, c] {
        node.hears("t", "a", "1", true).await;
    }
    for node in &nodes {
        node.sees(&nodes).await;
    }
    let large = Bytes::from(vec![b'x'; 3 << 20]);
    let heard = a.mesh.publish_confirmed("t", large.clone(), PATIENCE).await;
    let mut by = heard.by.clone();
    by.sort();
    assert_eq!(by, ["b".into(), "c".into()], "{heard:?}");
    assert_eq!(heard.missed, []);
    assert_eq!(c.mesh.facts("t").borrow()[0].body, large);
    a.mesh.publish("t", Bytes::new());
    for node in [b, c] {
        let mut facts = node.mesh.facts("t");
        let gone = facts.wait_for(|facts| facts.is_empty());
        within(gone).await.unwrap();
    }
    assert!(
        a.mesh.facts("t").borrow().is_empty(),
        "one's own words are no news"
    );
}

#[tokio::test]
async fn the_first_answer_with_something_in_it_is_taken() {
    let nodes = ["a", "b", "c"].map(|name| Node::start(name, &secrets(1, None)));
    introduce(&nodes);
    let [a, b, c] = &nodes;
    a.meets(&nodes).await;
    let started = Instant::now();
    let body = Bytes::from_static(b"token");
    assert_eq!(a.mesh.ask("q", body.clone(), PATIENCE).await, None);
    assert!(
        started.elapsed() < PATIENCE,
        "nobody knows: no need to wait"
    );
    b.mesh.answer("q", Arc::new(AnswerWith(|_| Bytes::new())));
    c.mesh.answer("q", Arc::new(AnswerWith(|body: Bytes| body)));
    let answer = a.mesh.ask("q", body.clone(), PATIENCE).await;
    assert_eq!(answer, Some(body));
}

#[tokio::test]
async fn one_that_is_killed_keeps_its_last_word_until_it_returns() {
    let mut nodes = ["a", "b", "c"].map(|name| Node::start(name, &secrets(1, None)));
    introduce(&nodes);
    nodes[0].mesh.publish("t", Bytes::from_static(b"1"));
    nodes[0].mesh.publish("u", Bytes::from_static(b"1"));
    for node in &nodes[1..] {
        node.hears("t", "a", "1", true).await;
        node.hears("u", "a", "1", true).await;
    }
    let before = nodes[1].mesh.facts("t").borrow()[0].version;
    nodes[0].kill();
    for node in &nodes[1..] {
        node.hears("t", "a", "1", false).await;
    }
    let heard = nodes[1]
        .mesh
        .publish_confirmed("t", Bytes::from_static(b"b"), PATIENCE);
    assert_eq!(
        within(heard).await.by,
        ["c".into()],
        "who is dead is not waited for"
    );
    nodes[0] = Node::start("a", &secrets(1, None));
    introduce(&nodes);
    nodes[0].hears("t", "b", "b", true).await;
    nodes[1].hears("u", "a", "1", false).await;
    nodes[0].mesh.publish("t", Bytes::from_static(b"2"));
    for node in &nodes[1..] {
        node.hears("t", "a", "2", true).await;
        let facts = node.mesh.facts("t");
        let after = facts
            .borrow()
            .iter()
            .find(|fact| &*fact.member == "a")
            .unwrap()
            .version;
        assert!(after > before);
    }
}

#[tokio::test]
async fn who_leaves_is_not_missed() {
    let mut nodes = ["a", "b"].map(|name| Node::start(name, &secrets(1, None)));
    introduce(&nodes);
    nodes[0].mesh.publish("t", Bytes::from_static(b"1"));
    nodes[1].hears("t", "a", "1", true).await;
    nodes[0].end().await;
    nodes[1].hears("t", "a", "1", false).await;
    assert_eq!(**nodes[1].mesh.members().borrow(), []);
}

#[tokio::test]
async fn words_and_confirmations_go_round_a_broken_line() {
    let nodes = ["a", "b", "c"].map(|name| Node::start(name, &secrets(1, None)));
    let [a, b, c] = &nodes;
    a.knows(&[b.address()]);
    c.knows(&[b.address()]);
    for node in &nodes {
        node.sees(&nodes).await;
    }
    a.mesh.publish("t", Bytes::from_static(b"1"));
    c.hears("t", "a", "1", true).await;
    let heard = a
        .mesh
        .publish_confirmed("t", Bytes::from_static(b"2"), PATIENCE)
        .await;
    assert_eq!((heard.by.len(), heard.missed.len()), (2, 0), "{heard:?}");
    c.hears("t", "a", "2", true).await;
    assert_eq!((a.mesh.live(), b.mesh.live()), (1, 2));
}

#[tokio::test]
async fn one_that_is_cut_off_keeps_what_it_knows_and_catches_up() {
    let nodes = ["a", "b"].map(|name| Node::start(name, &secrets(1, None)));
    let [a, b] = &nodes;
    let wire = Wire::to(b.address()).await;
    a.knows(&[wire.address]);
    a.mesh.publish("t", Bytes::from_static(b"1"));
    b.hears("t", "a", "1", true).await;
    wire.freeze();
    b.hears("t", "a", "1", false).await;
    a.mesh.publish("t", Bytes::from_static(b"2"));
    let fact = b.mesh.facts("t").borrow()[0].clone();
    assert_eq!(fact.body, "1");
    wire.thaw();
    b.hears("t", "a", "2", true).await;
    a.sees(&nodes).await;
}

#[tokio::test]
async fn both_sides_dial_and_one_connection_stays() {
    let nodes = ["a", "b"].map(|name| Node::start(name, &secrets(1, None)));
    introduce(&nodes);
    let [a, b] = &nodes;
    for round in 0..20_u8 {
        let body = Bytes::from(vec![round]);
        a.sees(&nodes).await;
        let heard = within(a.mesh.publish_confirmed("t", body, PATIENCE)).await;
        assert_eq!(heard.missed, [], "round {round}");
    }
    assert_eq!((a.mesh.live(), b.mesh.live()), (1, 1));
}

#[tokio::test]
async fn the_secret_is_replaced_on_one_after_the_other() {
    let names = ["a", "b", "c"];
    let mut nodes = names.map(|name| Node::start(name, &secrets(1, None)));
    introduce(&nodes);
    for node in &nodes {
        node.sees(&nodes).await;
    }
    for secrets in [secrets(2, Some(1)), secrets(2, None), secrets(3, Some(2))] {
        for (index, name) in names.iter().enumerate() {
            nodes[index].kill();
            nodes[index] = Node::start(name, &secrets);
            introduce(&nodes);
            for node in &nodes {
                node.sees(&nodes).await;
            }
            let body = Bytes::from_static(b"x");
            let heard = within(nodes[index].mesh.publish_confirmed("t", body, PATIENCE)).await;
            assert_eq!(heard.by.len(), 2, "{name} with {secrets:?}: {heard:?}");
        }
    }
}

#[tokio::test]
async fn one_that_starts_alone_has_what_it_knew() {
    let path = std::env::temp_dir().join(format!("tidegate-mesh-alone-{}", std::process::id()));
    let a = Node::start("a", &secrets(1, None));
    let mut b = Node::start_with("b", &secrets(1, None), Some(&path));
    b.knows(&[a.address()]);
    a.mesh.publish("t", Bytes::from_static(b"1"));
    b.hears("t", "a", "1", true).await;
    b.end().await;
    let again = Node::start_with("b", &secrets(2, Some(1)), Some(&path));
    again.hears("t", "a", "1", false).await;
    assert!(!again.mesh.members().borrow()[0].is_live);
    drop(again);
    let kept = std::fs::read(&path).unwrap();
    let stranger = Node::start_with("b", &secrets(3, None), Some(&path));
    assert!(stranger.mesh.facts("t").borrow().is_empty());
    drop(stranger);
    let name = path.file_name().unwrap().to_str().unwrap();
    let beside = std::fs::read_dir(path.parent().unwrap()).unwrap();
    let beside = beside.map(|entry| entry.unwrap());
    let beside: Vec<_> = beside
        .filter(|entry| entry.file_name().to_str().unwrap().starts_with(name))
        .map(|entry| entry.path())
        .collect();
    let aside = format!("{name}.damaged-");
    let is_aside = |path: &&PathBuf| path.to_str().unwrap().contains(&aside);
    let aside = beside.iter().find(is_aside).unwrap();
    assert_eq!(std::fs::read(aside).unwrap(), kept, "the secret was wrong");
    beside
        .iter()
        .for_each(|path| std::fs::remove_file(path).unwrap());
}

/// A list that has everybody in it makes everybody a neighbour: a question reaches all.
#[tokio::test]
async fn twelve_members_are_connected_each_with_each() {
    let nodes: Vec<Node> = (0..12)
        .map(|number| Node::start(&format!("n{number}"), &secrets(1, None)))
        .collect();
    introduce(&nodes);
    for node in &nodes {
        node.meets(&nodes).await;
        node.mesh.publish("t", Bytes::from_static(b"1"));
    }
    let last = &nodes[11];
    last.mesh
        .answer("q", Arc::new(AnswerWith(|body: Bytes| body)));
    for node in &nodes[..11] {
        assert_eq!(node.mesh.live(), 11);
        let answer = node.mesh.ask("q", Bytes::from_static(b"x"), PATIENCE).await;
        assert_eq!(answer.as_deref(), Some(&b"x"[..]));
        let mut facts = node.mesh.facts("t");
        within(facts.wait_for(|facts| facts.len() == 11))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn what_is_too_large_takes_back_what_was_said_before() {
    let nodes = ["a", "b"].map(|name| Node::start(name, &secrets(1, None)));
    introduce(&nodes);
    let [a, b] = &nodes;
    a.mesh.publish("t", Bytes::from_static(b"1"));
    b.hears("t", "a", "1", true).await;
    let large = Bytes::from(vec![0; (8 << 20) + 1]);
    a.mesh.publish("t", large);
    let mut facts = b.mesh.facts("t");
    within(facts.wait_for(|facts| facts.is_empty()))
        .await
        .unwrap();
    a.mesh.publish("t", Bytes::from_static(b"2"));
    b.hears("t", "a", "2", true).await;
}

#[test]
fn settings_are_understood_or_refused() {
    let cluster = |name: &str, address: &str, peer: &str| Cluster {
        name: name.to_owned(),
        address: address.to_owned(),
        peers: vec![peer.to_owned()],
        ..Cluster::default()
    };
    let settings = Settings::read(&cluster("", ":4673", "tasks.proxy")).unwrap();
    assert!(!settings.name.is_empty());
    assert_eq!((settings.peers.len(), settings.state_file), (1, None));
    let long = "x".repeat(256);
    for (settings, part) in [
        (cluster(&long, ":1", "a"), "cluster.name"),
        (cluster("a\u{7}", ":1", "a"), "cluster.name"),
        (cluster("a", "1", "a"), "cluster.address"),
        (cluster("a", ":1", "a:b:c"), "cluster.peers"),
    ] {
        let error = Settings::read(&settings).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}
