//! Who knocks: connections that others make.
//!
//! A connection has a few seconds to show a certificate and to say who it is; few of
//! them may be at it at once, and fewer from one address, so that strangers take neither
//! memory nor much time. Addresses at which members are looked for have places of their
//! own. Who names no authority that is known here is dropped without a word.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::server::Acceptor;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
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

/// How long one keeps its place that had a signature of this end and came to nothing:
/// signatures cost time.
const PENANCE: Duration = Duration::from_millis(100);

/// How long no connection is accepted after that failed: too many open files, mostly.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes connections until the mesh ends.
pub(super) async fn run(
    hub: Arc<Hub>,
    identity: Identity,
    listener: TcpListener,
    members: watch::Receiver<BTreeSet<SocketAddr>>,
) {
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
        let is_looked_for = members.borrow().iter().any(|it| it.ip() == peer.ip());
        let Some(admission) = gate.admit(peer.ip(), is_looked_for) else {
            let error = "too many connections are being made";
            hub.counters.refuse(Reason::Busy, peer.ip(), error);
            continue;
        };
        let (serving, identity) = (Arc::clone(&hub), identity.clone());
        hub.tasks.spawn(async move {
            match shake(&serving, &identity, stream, peer).await {
                Ok(stream) => {
                    link::run(&serving, stream, peer, false, admission).await;
                }
                Err(Some(_closed_later)) => {
                    serving.stop.run_until_cancelled(sleep(PENANCE)).await;
                    drop(admission);
                }
                Err(None) => {}
            }
        });
    }
}

async fn shake(
    hub: &Hub,
    identity: &Identity,
    stream: TcpStream,
    peer: SocketAddr,
) -> Result<TlsStream<TcpStream>, Option<TcpStream>> {
    let _as_it_is = stream.set_nodelay(true);
    let shaking = hub
        .stop
        .run_until_cancelled(timeout(hub.pace.handshake, handshake(identity, stream)));
    let ended = match shaking.await {
        Some(Ok(shaken)) => shaken,
        Some(Err(_)) => Err((Ended::Slow, None)),
        None => Err((Ended::Quietly, None)),
    };
    let (reason, error, stream) = match ended {
        Ok(stream) => return Ok(stream),
        Err((Ended::Refused(reason, error), stream)) => (reason, error, stream),
        Err((Ended::Slow, stream)) => {
            let error = "it did not say who it is in time".to_owned();
            (Reason::Slow, error, stream)
        }
        Err((Ended::Quietly, stream)) => return Err(stream),
    };
    hub.counters.refuse(reason, peer.ip(), &error);
    Err(stream)
}

/// How a handshake failed.
enum Ended {
    /// In a way to be counted.
    Refused(Reason, String),
    /// It took too long.
    Slow,
    /// The other end went away before it had said anything.
    Quietly,
}

/// The connection, or why there is none, with what is left of it after a signature.
async fn handshake(
    identity: &Identity,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, (Ended, Option<TcpStream>)> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await;
    let start = start.map_err(|error| (classify(&error), None))?;
    let (reason, error) = match identity.acquaintance(&start.client_hello()) {
        Acquaintance::Member => {
            let accepting = start.into_stream(Arc::clone(&identity.server));
            let accepted = accepting.into_fallible().await;
            return accepted.map_err(|(error, stream)| (classify(&error), Some(stream)));
        }
        Acquaintance::OtherSecret => (Reason::OtherSecret, "it has another secret"),
        Acquaintance::Stranger => (Reason::Stranger, "it has no secret"),
    };
    Err((Ended::Refused(reason, error.to_owned()), None))
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
    /// A place for one from this address, if there is one; `is_looked_for` takes one
    /// that strangers can't have.
    fn admit(self: &Arc<Self>, peer: IpAddr, is_looked_for: bool) -> Option<Admission> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = !is_looked_for && all.values().sum::<usize>() >= ALL;
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
        let mut taken: Vec<_> = (0..ONE)
            .map(|_| gate.admit(address(1), false).unwrap())
            .collect();
        assert!(gate.admit(address(1), false).is_none());
        for last in 2..=ALL / ONE {
            taken.extend((0..ONE).map(|_| gate.admit(address(last), false).unwrap()));
        }
        assert!(gate.admit(address(200), false).is_none());
        assert!(gate.admit(address(1), true).is_none());
        let member = gate.admit(address(200), true);
        assert!(member.is_some(), "members' places are not strangers'");
        drop(member);
        taken.truncate(1);
        assert!(gate.admit(address(200), false).is_some());
        drop(taken);
        assert!(gate.0.lock().unwrap().is_empty());
    }
}
