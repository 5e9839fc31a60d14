//! The secret is replaced, one proxy after the other, under a load whose TLS sessions
//! resume wherever they come.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use rustix::process::Signal;
use rustls::HandshakeKind;
use scenarios::client::Visitor;
use scenarios::eventually;
use tokio::sync::{Mutex, RwLock};
use tokio::time::{interval, timeout};

use crate::stage::{SOON, Stage, all_meet, logs};

/// Clients, each of which keeps its sessions for itself.
const CLIENTS: usize = 4;
/// From one visit of a client to its next.
const PACE: Duration = Duration::from_millis(20);
/// How many are to be seen between two steps.
const BETWEEN: usize = 40;

/// What the clients saw.
#[derive(Debug, Default)]
struct Tally {
    visits: usize,
    resumed: usize,
    failures: Vec<String>,
}

/// Nodes that clients are sent to; one is taken out before it is restarted, as the tier
/// in front of proxies does.
struct Load {
    nodes: Vec<RwLock<Option<SocketAddr>>>,
    tally: Mutex<Tally>,
    is_over: AtomicBool,
}

impl Load {
    async fn run(&self) {
        join_all((0..CLIENTS).map(|it| self.client(it))).await;
    }

    async fn client(&self, number: usize) {
        let visitor = Visitor::new().unwrap();
        let mut pace = interval(PACE);
        let mut is_known = false;
        for turn in number.. {
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            pace.tick().await;
            let Ok(node) = self.nodes[turn % self.nodes.len()].try_read() else {
                continue;
            };
            let Some(address) = *node else { continue };
            let visited = timeout(SOON, visit(&visitor, address)).await;
            drop(node);
            let mut tally = self.tally.lock().await;
            match visited {
                Ok(Ok(kind)) if is_known => {
                    tally.visits += 1;
                    tally.resumed += usize::from(kind == Some(HandshakeKind::Resumed));
                }
                Ok(Ok(_)) => is_known = true,
                Ok(Err(error)) => tally.failures.push(format!("{address}: {error:#}")),
                Err(late) => tally.failures.push(format!("{address}: {late}")),
            }
        }
    }

    /// Waits for more visits.
    async fn goes_on(&self) {
        let before = self.tally.lock().await.visits;
        let gone = async || self.tally.lock().await.visits >= before + BETWEEN;
        eventually(SOON, gone).await.unwrap();
    }
}

/// One request on a connection of its own; how its handshake went.
async fn visit(visitor: &Visitor, to: SocketAddr) -> anyhow::Result<Option<HandshakeKind>> {
    let (kind, answer) = visitor.visit(to, "load.test", "/-/probe").await?;
    anyhow::ensure!(answer.starts_with("HTTP/1.1 302 "), "{answer}");
    Ok(kind)
}

#[tokio::test]
async fn the_secret_is_replaced_without_a_gap() {
    let stage = Stage::new();
    let mut nodes = stage.three('a').await;
    all_know_one_key(&nodes).await;
    let load = Load {
        nodes: nodes.iter().map(|it| RwLock::new(Some(it.tls))).collect(),
        tally: Mutex::default(),
        is_over: AtomicBool::new(false),
    };
    let steps = async {
        load.goes_on().await;
        // Accepted everywhere, used everywhere, and the old one forgotten.
        for (now, before) in [('a', Some('b')), ('b', Some('a')), ('b', None)] {
            for number in 0..3_u8 {
                let place = usize::from(number);
                *load.nodes[place].write().await = None;
                let proxy = &mut nodes[place].site.proxy;
                proxy.signal(Signal::Term).unwrap();
                assert!(proxy.wait(SOON).unwrap().success());
                nodes[place] = stage.start(number, now, before).await;
                *load.nodes[place].write().await = Some(nodes[place].tls);
                all_meet(&nodes).await;
                load.goes_on().await;
            }
        }
        load.is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(load.run(), steps);
    let tally = load.tally.into_inner();
    eprintln!("{} visits, {} resumed", tally.visits, tally.resumed);
    assert!(tally.failures.is_empty(), "{tally:?}\n{}", logs(&nodes));
    assert!(
        tally.resumed * 100 >= tally.visits * 99,
        "{tally:?}\n{}",
        logs(&nodes)
    );
    for node in &nodes {
        for reason in ["stranger", "other_secret", "certificate"] {
            let count = node.refused(reason).await;
            assert!(count < 1.0, "{reason}: {count}\n{}", logs(&nodes));
        }
    }
}

/// Waits until a session of the first node is resumed by the others.
async fn all_know_one_key(nodes: &[crate::stage::Node]) {
    for node in &nodes[1..] {
        let resumes = async || {
            let resumed = Visitor::is_resumed(nodes[0].tls, node.tls, "load.test").await;
            resumed.unwrap()
        };
        eventually(SOON, resumes).await.unwrap();
    }
}
