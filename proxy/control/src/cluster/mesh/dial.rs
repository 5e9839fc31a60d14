//! Connections that this member makes: one task for each address that a peer may have.
//!
//! An address that leads to this member itself, or to one that is connected already,
//! is left alone while that is so. Everything else is tried again and again, with
//! short waits: one that was cut off has to be back at once.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tidegate_shared::backoff::Backoff;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::hub::Hub;
use super::identity::Identity;
use super::link::{self, Outcome};

/// The first wait between two tries.
const FIRST_RETRY: Duration = Duration::from_millis(50);

/// How long an address that leads to this member itself is left alone: it may become
/// another's.
const ITSELF: Duration = Duration::from_secs(30);

/// Keeps a task for each of the addresses until the mesh ends.
pub(super) async fn run(
    hub: Arc<Hub>,
    identity: Identity,
    mut addresses: watch::Receiver<BTreeSet<SocketAddr>>,
) {
    let mut tasks: HashMap<SocketAddr, CancellationToken> = HashMap::new();
    loop {
        let wanted = addresses.borrow_and_update().clone();
        tasks.retain(|address, task| {
            let stays = wanted.contains(address);
            if !stays {
                task.cancel();
            }
            stays
        });
        for address in wanted {
            tasks.entry(address).or_insert_with(|| {
                let stop = hub.stop.child_token();
                let (dialling, identity, unwanted) =
                    (Arc::clone(&hub), identity.clone(), stop.clone());
                hub.tasks.spawn(async move {
                    keep(&dialling, &identity, address, &unwanted).await;
                });
                stop
            });
        }
        let changed = hub.stop.run_until_cancelled(addresses.changed()).await;
        if !matches!(changed, Some(Ok(()))) {
            return;
        }
    }
}

/// Keeps a connection with whoever is at this address. A connection that stands is
/// not cut when the address is not wanted any more.
async fn keep(
    hub: &Arc<Hub>,
    identity: &Identity,
    address: SocketAddr,
    unwanted: &CancellationToken,
) {
    let mut backoff = Backoff::new(FIRST_RETRY.min(hub.pace.retry), hub.pace.retry);
    let mut linked = hub.linked.subscribe();
    while !unwanted.is_cancelled() {
        let free = linked.wait_for(|_| !hub.is_linked_at(address));
        if unwanted.run_until_cancelled(free).await.is_none() {
            return;
        }
        let outcome = match connect(hub, identity, address).await {
            Some(stream) => link::run(hub, stream, address, true, ()).await,
            None => Outcome::Failed,
        };
        let wait = match outcome {
            Outcome::Itself => ITSELF,
            Outcome::Linked(name) => {
                let gone = linked.wait_for(|_| !hub.is_linked(&name));
                if unwanted.run_until_cancelled(gone).await.is_none() {
                    return;
                }
                backoff.wait()
            }
            Outcome::Ended => {
                backoff.reset();
                backoff.wait()
            }
            Outcome::Failed => backoff.wait(),
        };
        unwanted.run_until_cancelled(sleep(wait)).await;
    }
}

async fn connect(
    hub: &Hub,
    identity: &Identity,
    address: SocketAddr,
) -> Option<TlsStream<TcpStream>> {
    let connecting = async {
        let stream = timeout(hub.pace.connect, TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        Ok::<_, io::Error>(stream)
    };
    let stream = match hub.stop.run_until_cancelled(connecting).await? {
        Ok(stream) => stream,
        Err(error) => {
            debug!(server.addr = %address, %error, "Can't reach a peer");
            return None;
        }
    };
    let connector = TlsConnector::from(Arc::clone(&identity.client));
    let shaking = connector.connect(Identity::server_name(), stream);
    let shaking = async { timeout(hub.pace.handshake, shaking).await? };
    match hub.stop.run_until_cancelled(shaking).await? {
        Ok(stream) => Some(stream),
        Err(error) => {
            hub.counters.rejected(address, &error);
            None
        }
    }
}
