//! Where the others may be: `cluster.peers`, names looked up again and again, and what
//! others who know tell ([`super::service`]).
//!
//! Owns the spelling of a peer. A name that can't be looked up keeps its last
//! addresses: a name server that is away is no reason to lose anybody.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join_all, select_all};
use thiserror::Error;
use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Longest wait for a name's addresses.
const LOOKUP: Duration = Duration::from_secs(2);

/// Addresses that are tried at most.
const ADDRESSES: usize = 512;

/// Addresses of peers, as somebody else finds them out.
pub type Addresses = watch::Receiver<Arc<Vec<SocketAddr>>>;

/// One entry of `cluster.peers`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    host: String,
    port: Option<u16>,
}

/// The text names no peer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no peer; write HOST:PORT, or a DNS name such as tasks.NAME")]
pub struct ParsePeerError(String);

impl FromStr for Peer {
    type Err = ParsePeerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text.trim()).ok_or_else(|| ParsePeerError(text.to_owned()))
    }
}

impl Peer {
    fn parse(text: &str) -> Option<Self> {
        if let Some(inner) = text.strip_prefix('[') {
            let (host, rest) = inner.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            let port = match rest.strip_prefix(':') {
                Some(port) => Some(Self::port(port)?),
                None if rest.is_empty() => None,
                None => return None,
            };
            let host = host.to_owned();
            return Some(Self { host, port });
        }
        if text.parse::<IpAddr>().is_ok() {
            let host = text.to_owned();
            return Some(Self { host, port: None });
        }
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(Self::port(port)?)),
            None => (text, None),
        };
        let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        let is_name = (1..=253).contains(&host.len()) && host.bytes().all(is_fit);
        let host = host.to_owned();
        is_name.then_some(Self { host, port })
    }

    fn port(text: &str) -> Option<u16> {
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|port| is_number && *port > 0)
    }

    /// The addresses that it has now; nothing if that can't be found out.
    async fn addresses(&self, default: u16) -> Option<Vec<SocketAddr>> {
        let port = self.port.unwrap_or(default);
        if let Ok(ip) = self.host.parse::<IpAddr>() {
            return Some(vec![SocketAddr::new(ip, port)]);
        }
        let found = timeout(LOOKUP, lookup_host((self.host.as_str(), port))).await;
        Some(found.ok()?.ok()?.collect())
    }
}

/// Keeps `to` at all addresses that peers may have until `stop` is cancelled.
pub(super) async fn run(
    peers: Vec<Peer>,
    mut others: Vec<Addresses>,
    port: u16,
    every: Duration,
    to: watch::Sender<BTreeSet<SocketAddr>>,
    stop: CancellationToken,
) {
    let mut known: BTreeMap<Peer, Vec<SocketAddr>> = BTreeMap::new();
    let mut missing: BTreeSet<Peer> = BTreeSet::new();
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_due = true;
    loop {
        if is_due {
            let found = join_all(peers.iter().map(|peer| peer.addresses(port))).await;
            for (peer, found) in peers.iter().zip(found) {
                note(&mut missing, peer, found.is_some());
                if let Some(found) = found {
                    known.insert(peer.clone(), found);
                }
            }
        }
        let told: Vec<_> = others
            .iter_mut()
            .map(|other| other.borrow_and_update().clone())
            .collect();
        let all = known
            .values()
            .chain(told.iter().map(AsRef::as_ref))
            .flatten();
        let all: BTreeSet<SocketAddr> = all.copied().take(ADDRESSES).collect();
        to.send_if_modified(|shown| {
            let is_new = *shown != all;
            *shown = all;
            is_new
        });
        is_due = tokio::select! {
            _ = ticks.tick() => true,
            () = changed(&mut others) => false,
            () = stop.cancelled() => return,
        };
    }
}

/// Says once that a name has no addresses, and once that it has again.
fn note(missing: &mut BTreeSet<Peer>, peer: &Peer, is_found: bool) {
    if is_found {
        missing.remove(peer);
    } else if missing.insert(peer.clone()) {
        warn!(peer = peer.host, "Can't look up the addresses of a peer");
    }
}

/// Resolves when one of them has changed; those that never will are dropped.
async fn changed(others: &mut Vec<Addresses>) {
    others.retain(|other| other.has_changed().is_ok());
    if others.is_empty() {
        return std::future::pending().await;
    }
    let waiting = others.iter_mut().map(|other| Box::pin(other.changed()));
    let _whichever = select_all(waiting).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_understood() {
        let rows = [
            ("10.0.0.1:4673", Some(("10.0.0.1", Some(4673)))),
            ("10.0.0.1", Some(("10.0.0.1", None))),
            ("tasks.proxy", Some(("tasks.proxy", None))),
            (" node_1.lan:1 ", Some(("node_1.lan", Some(1)))),
            ("[::1]:9", Some(("::1", Some(9)))),
            ("[fd00::1]", Some(("fd00::1", None))),
            ("fd00::1", Some(("fd00::1", None))),
            ("", None),
            (":4673", None),
            ("a:b", None),
            ("a:0", None),
            ("a:+1", None),
            ("a:70000", None),
            ("a b", None),
            ("[::1]x", None),
            ("http://a", None),
        ];
        for (text, expected) in rows {
            let peer = text.parse::<Peer>().ok();
            let peer = peer.as_ref().map(|peer| (peer.host.as_str(), peer.port));
            assert_eq!(peer, expected, "{text}");
        }
    }

    #[tokio::test]
    async fn names_and_what_others_tell_become_addresses() {
        let peers = ["127.0.0.1", "localhost:1", "no-such-name.invalid"];
        let peers = peers.map(|peer| peer.parse().unwrap()).to_vec();
        let told: SocketAddr = ([127, 0, 0, 9], 9).into();
        let (teller, others) = watch::channel(Arc::new(vec![told]));
        let (to, mut addresses) = watch::channel(BTreeSet::new());
        let stop = CancellationToken::new();
        let hour = Duration::from_secs(3600);
        let running = run(peers, vec![others], 4673, hour, to, stop.clone());
        let looking = async {
            let first: SocketAddr = ([127, 0, 0, 1], 4673).into();
            let second: SocketAddr = ([127, 0, 0, 1], 1).into();
            let all = [first, second, told];
            let found = addresses.wait_for(|found| all.iter().all(|one| found.contains(one)));
            found.await.unwrap();
            teller.send_replace(Arc::default());
            let found =
                addresses.wait_for(|found| found.contains(&first) && !found.contains(&told));
            found.await.unwrap();
            stop.cancel();
        };
        tokio::join!(running, looking);
    }
}
