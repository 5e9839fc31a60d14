//! Who knocks: connections that others make.
//!
//! A connection has a few seconds to show a certificate and to say who it is; few of
//! them may be at it at once, and fewer from one address. Who names no authority that
//! is known here is dropped without a word.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::server::Acceptor;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::warn;

use super::counters::Reason;
use super::hub::Hub;
use super::identity::{Acquaintance, Identity};
use super::link;

/// Connections that are not members yet.
const ALL: usize = 128;

/// The same from one address.
const ONE: usize = 8;

/// How long no connection is accepted after that failed: too many open files, mostly.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes connections until the mesh ends.
pub(super) async fn run(hub: Arc<Hub>, identity: Identity, listener: TcpListener) {
    let gate = Arc::new(Gate::default());
    let stop = hub.stop.clone();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "Can't accept connections to the mesh");
                sleep(PAUSE).await;
                continue;
            }
        };
        let Some(admission) = gate.admit(peer.ip()) else {
            let error = "too many connections are being made";
            hub.counters.refuse(Reason::Busy, peer.ip(), error);
            continue;
        };
        let (serving, identity) = (Arc::clone(&hub), identity.clone());
        hub.tasks.spawn(async move {
            if let Some(stream) = shake(&serving, &identity, stream, peer).await {
                link::run(&serving, stream, peer, false, admission).await;
            }
        });
    }
}

async fn shake(
    hub: &Hub,
    identity: &Identity,
    stream: TcpStream,
    peer: SocketAddr,
) -> Option<TlsStream<TcpStream>> {
    let _as_it_is = stream.set_nodelay(true);
    let shaking = hub
        .stop
        .run_until_cancelled(timeout(hub.pace.handshake, handshake(identity, stream)));
    let (reason, error) = match shaking.await? {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(Ended::Refused(reason, error))) => (reason, error),
        Ok(Err(Ended::Quietly)) => return None,
        Err(_) => (Reason::Slow, "it did not say who it is in time".to_owned()),
    };
    hub.counters.refuse(reason, peer.ip(), &error);
    None
}

/// How a handshake failed.
enum Ended {
    /// In a way to be counted.
    Refused(Reason, String),
    /// The other end went away before it had said anything.
    Quietly,
}

async fn handshake(identity: &Identity, stream: TcpStream) -> Result<TlsStream<TcpStream>, Ended> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await;
    let start = start.map_err(|error| classify(&error))?;
    let refused = |reason, error: &str| Err(Ended::Refused(reason, error.to_owned()));
    match identity.acquaintance(&start.client_hello()) {
        Acquaintance::Member => {}
        Acquaintance::OtherSecret => {
            return refused(Reason::OtherSecret, "it has another secret");
        }
        Acquaintance::Stranger => return refused(Reason::Stranger, "it has no secret"),
    }
    let accepted = start.into_stream(Arc::clone(&identity.server)).await;
    accepted.map_err(|error| classify(&error))
}

fn classify(error: &io::Error) -> Ended {
    use rustls::Error::{DecryptError, InappropriateMessage, InvalidMessage, PeerIncompatible};

    let inner = error.get_ref();
    let inner = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let reason = match inner {
        None => return Ended::Quietly,
        // What can't be decrypted was said to somebody else, or another time.
        Some(InvalidMessage(_) | InappropriateMessage { .. } | DecryptError) => Reason::Garbage,
        Some(PeerIncompatible(_)) => Reason::Protocol,
        Some(_) => Reason::Certificate,
    };
    Ended::Refused(reason, error.to_string())
}

/// Counts connections that are not members yet.
#[derive(Debug, Default)]
struct Gate(Mutex<HashMap<IpAddr, usize>>);

/// One of them.
struct Admission {
    gate: Arc<Gate>,
    peer: IpAddr,
}

impl Gate {
    fn admit(self: &Arc<Self>, peer: IpAddr) -> Option<Admission> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = all.values().sum::<usize>() >= ALL;
        let from_there = all.entry(peer).or_default();
        if is_full || *from_there >= ONE {
            if *from_there == 0 {
                all.remove(&peer);
            }
            return None;
        }
        *from_there += 1;
        Some(Admission {
            gate: Arc::clone(self),
            peer,
        })
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let mut all = self.gate.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(from_there) = all.get_mut(&self.peer) {
            *from_there -= 1;
            if *from_there == 0 {
                all.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_can_not_take_all_places() {
        let gate = Arc::new(Gate::default());
        let address = |last: usize| IpAddr::from([127, 0, 0, u8::try_from(last).unwrap()]);
        let mut taken: Vec<_> = (0..ONE).map(|_| gate.admit(address(1)).unwrap()).collect();
        assert!(gate.admit(address(1)).is_none());
        for last in 2..=ALL / ONE {
            taken.extend((0..ONE).map(|_| gate.admit(address(last)).unwrap()));
        }
        assert!(gate.admit(address(200)).is_none());
        taken.truncate(1);
        assert!(gate.admit(address(200)).is_some());
        drop(taken);
        assert!(gate.0.lock().unwrap().is_empty());
    }
}
