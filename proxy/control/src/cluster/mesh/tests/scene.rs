//! Members, and wires between them that can be frozen.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::cluster::mesh::{NetworkMesh, Pace, Settings, start};
use crate::cluster::secret::{Secret, Secrets};
use crate::cluster::{Member, Mesh as _};

/// How long anything may take on a machine that is busy.
const DEADLINE: Duration = Duration::from_secs(30);

pub(super) async fn within<F: Future>(future: F) -> F::Output {
    timeout(DEADLINE, future).await.unwrap()
}

pub(super) fn secrets(current: u8, previous: Option<u8>) -> Secrets {
    let secret = |byte| Secret::parse(&[byte; 32]).unwrap();
    Secrets {
        current: secret(current),
        previous: previous.map(secret),
    }
}

pub(super) fn pace() -> Pace {
    Pace {
        ping: Duration::from_millis(200),
        dead: Duration::from_secs(2),
        retry: Duration::from_millis(50),
        gather: Duration::from_millis(20),
        digest: Duration::from_millis(500),
        state: Duration::from_millis(10),
        ..Pace::default()
    }
}

/// A member on a thread of its own; dropping it kills it.
pub(super) struct Node {
    pub(super) mesh: Arc<NetworkMesh>,
    stop: CancellationToken,
    directory: watch::Sender<Arc<Vec<SocketAddr>>>,
    kill: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    pub(super) fn start(name: &str, secrets: &Secrets) -> Self {
        Self::start_with(name, secrets, None)
    }

    pub(super) fn start_with(name: &str, secrets: &Secrets, state: Option<&Path>) -> Self {
        Self::start_at(name, secrets, state, pace())
    }

    pub(super) fn start_at(
        name: &str,
        secrets: &Secrets,
        state: Option<&Path>,
        pace: Pace,
    ) -> Self {
        let settings = Settings {
            name: name.into(),
            address: "127.0.0.1:0".parse().unwrap(),
            peers: Vec::new(),
            state_file: state.map(Into::into),
            pace,
        };
        let (directory, addresses) = watch::channel(Arc::default());
        let stop = CancellationToken::new();
        let (kill, killed) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let mesh = {
            let _inside = runtime.enter();
            start(settings, secrets, vec![addresses], stop.clone()).unwrap()
        };
        let thread = std::thread::spawn(move || {
            let _gone = runtime.block_on(killed);
        });
        Self {
            mesh,
            stop,
            directory,
            kill: Some(kill),
            thread: Some(thread),
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.mesh.port()).into()
    }

    pub(super) fn knows(&self, addresses: &[SocketAddr]) {
        self.directory.send_replace(Arc::new(addresses.to_vec()));
    }

    /// As SIGKILL does: the sockets close, nothing is said.
    pub(super) fn kill(&mut self) {
        self.kill.take();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    /// As SIGTERM does.
    pub(super) async fn end(&mut self) {
        self.stop.cancel();
        within(self.mesh.closed()).await;
        self.kill();
    }

    /// Waits until a member's word is this.
    pub(super) async fn hears(&self, topic: &'static str, member: &str, body: &str, is_live: bool) {
        let mut facts = self.mesh.facts(topic);
        let heard = facts.wait_for(|facts| {
            facts.iter().any(|fact| {
                let is_it = &*fact.member == member && fact.is_live == is_live;
                is_it && fact.body == body.as_bytes()
            })
        });
        if timeout(DEADLINE, heard).await.is_err() {
            let shown = self.mesh.facts(topic).borrow().clone();
            panic!(
                "{} hears not {body} of {member}: {shown:?}",
                self.mesh.name()
            );
        }
    }

    /// Waits until all of them are live, itself aside.
    pub(super) async fn sees(&self, nodes: &[Self]) {
        self.waits(nodes, |member| member.is_live).await;
    }

    /// Waits until it is connected with all of them, itself aside.
    pub(super) async fn meets(&self, nodes: &[Self]) {
        self.waits(nodes, |member| member.address.is_some()).await;
    }

    async fn waits(&self, nodes: &[Self], is_there: impl Fn(&Member) -> bool) {
        let mut members = self.mesh.members();
        let seen = members.wait_for(|members| {
            let names = nodes.iter().map(|node| node.mesh.name());
            let mut others = names.filter(|name| *name != self.mesh.name());
            others.all(|name| {
                let found = members.iter().find(|member| member.name == *name);
                found.is_some_and(&is_there)
            })
        });
        if timeout(DEADLINE, seen).await.is_err() {
            let shown = self.mesh.members().borrow().clone();
            panic!("{} sees {shown:?}", self.mesh.name());
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Lets everybody know everybody's address, their own included.
pub(super) fn introduce(nodes: &[Node]) {
    let addresses: Vec<SocketAddr> = nodes.iter().map(Node::address).collect();
    nodes.iter().for_each(|node| node.knows(&addresses));
}

/// A line to an address. Frozen, it carries nothing, and connections over it are
/// neither closed nor made.
pub(super) struct Wire {
    pub(super) address: SocketAddr,
    frozen: watch::Sender<bool>,
    _task: JoinSet<()>,
}

impl Wire {
    pub(super) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (frozen, state) = watch::channel(false);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut lines = JoinSet::new();
            loop {
                let (from, _) = listener.accept().await.unwrap();
                lines.spawn(carry(from, target, state.clone()));
            }
        });
        Self {
            address,
            frozen,
            _task: task,
        }
    }

    pub(super) fn freeze(&self) {
        self.frozen.send_replace(true);
    }

    pub(super) fn thaw(&self) {
        self.frozen.send_replace(false);
    }
}

async fn carry(mut from: TcpStream, target: SocketAddr, mut frozen: watch::Receiver<bool>) {
    if *frozen.borrow() {
        let _thawed = frozen.wait_for(|frozen| !frozen).await;
        return;
    }
    let mut to = TcpStream::connect(target).await.unwrap();
    tokio::select! {
        _ = copy_bidirectional(&mut from, &mut to) => return,
        _ = frozen.wait_for(|frozen| *frozen) => {}
    }
    let _thawed = frozen.wait_for(|frozen| !frozen).await;
}
