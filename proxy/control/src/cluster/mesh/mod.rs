//! The mesh over the network: [`start`] opens it, [`NetworkMesh`] is this member's end.
//!
//! Every pair of members keeps one connection, made by either side, mutual TLS 1.3
//! under an authority that follows from the cluster's secret ([`mod@identity`]). Members
//! keep each other's last words ([`mod@ledger`]) and bring each other up to date by
//! digests ([`hub`]); nobody decides for the others and nobody waits for a slow one.
//! All of it runs on the control plane's runtime.

mod counters;
mod dial;
mod fields;
mod framing;
mod hub;
mod identity;
mod keep;
mod ledger;
mod link;
mod listen;
mod outbox;
mod party;
mod peers;
pub mod service;
mod state;
#[cfg(test)]
mod tests;
mod wire;

pub use counters::{Counters, REASONS, Reason};
pub use framing::Pace;
pub use identity::IdentityError;
pub use peers::{Addresses, ParsePeerError, Peer};

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use thiserror::Error;
use tidegate_shared::listen::{self as socket, ListenAddress, ParseListenAddressError};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use self::hub::Hub;
use self::identity::Identity;
use self::state::StateFile;
use super::seal::Seal;
use super::secret::Secrets;
use super::{Answer, Fact, Heard, Member, Mesh};
use crate::acme::store::Sealer;
use crate::config::startup::Cluster;

/// From one look for what can be forgotten to the next.
const FORGET: Duration = Duration::from_secs(60);

/// How long everything may take to end.
const END: Duration = Duration::from_secs(3);

/// How the mesh is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This member's name, which no other may have.
    pub name: Arc<str>,
    /// Where the others connect.
    pub address: ListenAddress,
    /// Where the others may be.
    pub peers: Vec<Peer>,
    /// Where what is known is kept, if it is.
    pub state_file: Option<PathBuf>,
    /// How fast everything goes.
    pub pace: Pace,
}

/// The mesh can't start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// `cluster.address` is no address.
    #[error("cluster.address can't be used")]
    Address(#[from] ParseListenAddressError),
    /// An entry of `cluster.peers` is none.
    #[error("cluster.peers can't be used")]
    Peer(#[from] ParsePeerError),
    /// `cluster.name` is no name.
    #[error("cluster.name {0:?} can't be used; write 1 to 255 bytes that can be printed")]
    Name(String),
    /// Nothing can be listened on.
    #[error("can't listen on {address} for the cluster")]
    Listen {
        /// Where.
        address: ListenAddress,
        /// Why not.
        source: io::Error,
    },
    /// The certificates can't be made.
    #[error("the cluster's certificates can't be made")]
    Identity(#[from] IdentityError),
}

impl Settings {
    /// Takes the settings for what they mean. Without a name the host's is taken.
    ///
    /// # Errors
    /// When name, address or a peer can't be used.
    pub fn read(settings: &Cluster) -> Result<Self, StartError> {
        let name = match settings.name.as_str() {
            "" => std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default(),
            name => name.to_owned(),
        };
        let name = name.trim();
        if !fields::is_name(name) {
            return Err(StartError::Name(name.to_owned()));
        }
        let peers = settings.peers.iter().map(|peer| peer.parse());
        let state_file = Some(settings.state_file.as_str()).filter(|path| !path.is_empty());
        Ok(Self {
            name: name.into(),
            address: settings.address.parse()?,
            peers: peers.collect::<Result<_, _>>()?,
            state_file: state_file.map(PathBuf::from),
            pace: Pace::default(),
        })
    }
}

/// This member's end of the mesh.
#[derive(Debug)]
pub struct NetworkMesh {
    hub: Arc<Hub>,
}

/// Opens the mesh; it runs until `stop` is cancelled, on the runtime of the caller.
/// `others` tell further addresses of peers ([`service::watch`]). Reads the state file
/// before it returns.
///
/// # Errors
/// When nothing can be listened on, or no certificate be made. A state file that can't
/// be read is no reason: it is named in the log and replaced.
pub fn start(
    settings: Settings,
    secrets: &Secrets,
    others: Vec<Addresses>,
    stop: CancellationToken,
) -> Result<Arc<NetworkMesh>, StartError> {
    let identity = Identity::new(secrets)?;
    let (listener, port) = listen(&settings.address)?;
    let file = settings.state_file.map(|path| {
        let seal: Arc<dyn Sealer> = Arc::new(Seal::new(secrets));
        StateFile::new(path, seal)
    });
    let ledger = keep::ledger(&settings.name, file.as_ref());
    let (pace, name) = (settings.pace, settings.name);
    info!(member = %name, port, "Listening for other members of the cluster");
    let hub = Arc::new(Hub::new(ledger, name, port, pace, stop.clone()));
    let (to, addresses) = watch::channel(BTreeSet::new());
    let tasks = &hub.tasks;
    let (ours, members) = (identity.clone(), addresses.clone());
    tasks.spawn(listen::run(Arc::clone(&hub), ours, listener, members));
    tasks.spawn(dial::run(Arc::clone(&hub), identity, addresses));
    let default_port = match settings.address.port() {
        0 => port,
        port => port,
    };
    let every = pace.resolve;
    tasks.spawn(peers::run(
        settings.peers,
        others,
        default_port,
        every,
        to,
        stop,
    ));
    tasks.spawn(gossip(Arc::clone(&hub)));
    if let Some(file) = file {
        tasks.spawn(keep::keep(Arc::clone(&hub), file));
    }
    Ok(Arc::new(NetworkMesh { hub }))
}

fn listen(address: &ListenAddress) -> Result<(TcpListener, u16), StartError> {
    let open = || {
        let listener = socket::bind(address, 1, false)?.pop();
        let listener = listener.ok_or(io::ErrorKind::AddrNotAvailable)?;
        let port = listener.local_addr()?.port();
        Ok((TcpListener::from_std(listener)?, port))
    };
    open().map_err(|source| StartError::Listen {
        address: address.clone(),
        source,
    })
}

/// Tells everybody what is known, at once after news and from time to time.
async fn gossip(hub: Arc<Hub>) {
    let mut regularly = interval(hub.pace.digest);
    regularly.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut forget = interval(FORGET);
    loop {
        tokio::select! {
            () = hub.news.notified() => {
                hub.stop.run_until_cancelled(sleep(hub.pace.gather)).await;
                hub.send_digests();
            }
            _ = regularly.tick() => hub.send_digests(),
            _ = forget.tick() => hub.forget(),
            () = hub.stop.cancelled() => {
                hub.end();
                return;
            }
        }
    }
}

impl NetworkMesh {
    /// What is counted.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.hub.counters
    }

    /// How many facts are known, those of this member included, and their bytes.
    pub fn size(&self) -> (usize, usize) {
        self.hub.with_ledger(|ledger| ledger.size())
    }

    /// How many members are connected with this one.
    pub fn live(&self) -> u64 {
        self.hub.counters.live.load(Relaxed)
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.hub.port
    }

    /// Resolves when everything has ended, after `stop` was cancelled: the others have
    /// heard that this one leaves, and the state file is written.
    pub async fn closed(&self) {
        let tasks: &TaskTracker = &self.hub.tasks;
        tasks.close();
        if timeout(END, tasks.wait()).await.is_err() {
            warn!("The mesh did not end in time");
        }
    }
}

impl Mesh for NetworkMesh {
    fn name(&self) -> &Arc<str> {
        &self.hub.me
    }

    fn members(&self) -> watch::Receiver<Arc<Vec<Member>>> {
        self.hub.members()
    }

    fn publish(&self, topic: &'static str, body: Bytes) {
        self.hub.publish(topic, body);
    }

    fn facts(&self, topic: &'static str) -> watch::Receiver<Arc<Vec<Fact>>> {
        self.hub.facts(topic)
    }

    fn publish_confirmed(
        &self,
        topic: &'static str,
        body: Bytes,
        patience: Duration,
    ) -> BoxFuture<'_, Heard> {
        let watched = self.hub.publish_watched(topic, body);
        let watched = watched.map(|(id, done)| (Confirmed(&self.hub, id), done));
        Box::pin(async move {
            let Some((confirmed, done)) = watched else {
                return Heard::default();
            };
            let _in_time_or_not = timeout(patience, done).await;
            confirmed.0.confirmed(confirmed.1)
        })
    }

    fn ask<'a>(
        &'a self,
        question: &'static str,
        body: Bytes,
        patience: Duration,
    ) -> BoxFuture<'a, Option<Bytes>> {
        let asked = self.hub.ask(question, &body, patience);
        let asked = asked.map(|(id, answer)| (Question(&self.hub, id), answer));
        Box::pin(async move {
            let (_question, answer) = asked?;
            timeout(patience, answer).await.ok()?.ok()
        })
    }

    fn answer(&self, question: &'static str, with: Arc<dyn Answer>) {
        self.hub.set_answer(question, with);
    }
}

/// Somebody waits for confirmations; its drop ends that.
struct Confirmed<'a>(&'a Hub, u64);

impl Drop for Confirmed<'_> {
    fn drop(&mut self) {
        self.0.confirmed(self.1);
    }
}

/// Somebody waits for an answer; its drop ends that.
struct Question<'a>(&'a Hub, u64);

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.0.unask(self.1);
    }
}
