//! Keeps the snapshot current.
//!
//! Owns a socket in the kernel's multicast groups for links, addresses and
//! routes. A message is only a hint: what it is about is read again whole, so a
//! lost one costs no more than time, and the socket's overflow or death is
//! answered by reading everything. Everything is also read every 30 s.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{self, Either};
use nix::libc;
use rtnetlink::MulticastGroup;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket, protocols};
use tidegate_shared::backoff::Backoff;
use tidegate_shared::report::Chain;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::connection::Connection;
use super::error::NetworkError;
use super::{Snapshot, read};

/// How long messages of one event are gathered.
const GATHERING: Duration = Duration::from_millis(2);

/// How long at most when they never end.
const CROWDED: Duration = Duration::from_millis(50);

/// How often everything is read without a message.
const REFRESH: Duration = Duration::from_secs(30);

const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

/// What a datagram from the kernel makes old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stale {
    interfaces: bool,
    gateways: bool,
}

const EVERYTHING: Stale = Stale {
    interfaces: true,
    gateways: true,
};

/// Reads everything and keeps it current in a task of its own, until nobody
/// holds a receiver.
pub(super) async fn start(
    connection: Connection,
) -> Result<watch::Receiver<Arc<Snapshot>>, NetworkError> {
    let socket = listen()?;
    let mut snapshot = Snapshot::default();
    refresh(&connection, &mut snapshot, EVERYTHING).await?;
    let (sender, receiver) = watch::channel(Arc::new(snapshot));
    tokio::spawn(async move {
        let follow = std::pin::pin!(follow(&connection, socket, &sender));
        let unwanted = std::pin::pin!(sender.closed());
        match future::select(follow, unwanted).await {
            Either::Left(((), _)) | Either::Right(_) => {}
        }
    });
    Ok(receiver)
}

fn listen() -> Result<TokioSocket, NetworkError> {
    let open = || {
        let mut socket = TokioSocket::new(protocols::NETLINK_ROUTE)?;
        let groups = GROUPS.iter().map(|group| 1 << (*group as u32 - 1)).sum();
        socket.socket_mut().bind(&SocketAddr::new(0, groups))?;
        Ok(socket)
    };
    open().map_err(NetworkError::Open)
}

async fn follow(
    connection: &Connection,
    mut socket: TokioSocket,
    sender: &watch::Sender<Arc<Snapshot>>,
) {
    let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(2));
    loop {
        let trouble = keep(connection, &socket, sender, &mut backoff).await;
        warn!(error = %Chain(&trouble), "Reads links and addresses anew");
        tokio::time::sleep(backoff.wait()).await;
        match listen() {
            Ok(new) => socket = new,
            Err(error) => debug!(%error, "Can't listen to the kernel's messages"),
        }
    }
}

/// Reads what messages name, until something goes wrong. Everything first: the
/// socket before may have missed something.
async fn keep(
    connection: &Connection,
    socket: &TokioSocket,
    sender: &watch::Sender<Arc<Snapshot>>,
    backoff: &mut Backoff,
) -> NetworkError {
    let mut snapshot = Snapshot::clone(&sender.borrow());
    let mut stale = EVERYTHING;
    let mut whole = Instant::now();
    loop {
        let begin = Instant::now();
        if let Err(error) = refresh(connection, &mut snapshot, stale).await {
            return error;
        }
        backoff.reset();
        if stale == EVERYTHING {
            whole = begin;
        }
        sender.send_if_modified(|published| {
            let is_news = **published != snapshot;
            if is_news {
                *published = Arc::new(snapshot.clone());
            }
            is_news
        });
        // When reading takes long, or never ends, it has a third of the time.
        let gathering = (begin.elapsed() * 2).clamp(GATHERING, CROWDED);
        stale = match next(socket, whole + REFRESH, gathering).await {
            Ok(stale) => stale,
            Err(error) => return NetworkError::Open(error),
        };
    }
}

/// Waits for messages, and then a little for those that belong to them.
async fn next(
    socket: &TokioSocket,
    refresh: Instant,
    gathering: Duration,
) -> std::io::Result<Stale> {
    let mut stale = Stale::default();
    let mut until = refresh;
    loop {
        match tokio::time::timeout_at(until, hint(socket)).await {
            Err(_) if stale == Stale::default() => return Ok(EVERYTHING),
            Err(_) => return Ok(stale),
            Ok(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                debug!("The kernel had more messages than room for them");
                stale = EVERYTHING;
            }
            Ok(Err(error)) => return Err(error),
            Ok(Ok(hint)) => stale = stale.and(hint),
        }
        if until == refresh && stale != Stale::default() {
            until = Instant::now() + gathering;
        }
    }
}

async fn hint(socket: &TokioSocket) -> std::io::Result<Stale> {
    // Enough for the heads that matter; what is cut off counts as everything.
    let mut datagram = Vec::with_capacity(32 * 1024);
    socket.recv(&mut datagram).await?;
    Ok(Stale::from_datagram(&datagram))
}

async fn refresh(
    connection: &Connection,
    snapshot: &mut Snapshot,
    stale: Stale,
) -> Result<(), NetworkError> {
    if stale.interfaces {
        snapshot.interfaces = read::interfaces(connection).await?;
    }
    if stale.gateways {
        snapshot.gateways = read::gateways(connection).await?;
    }
    Ok(())
}

impl Stale {
    fn and(self, other: Self) -> Self {
        Self {
            interfaces: self.interfaces || other.interfaces,
            gateways: self.gateways || other.gateways,
        }
    }

    /// Looks at the heads of the messages: their length, their type, and of a
    /// route the length of its destination's prefix.
    fn from_datagram(mut datagram: &[u8]) -> Self {
        const HEAD: usize = 16;
        let mut stale = Self::default();
        while let Some((head, _)) = datagram.split_first_chunk::<HEAD>() {
            let [a, b, c, d, kind, kind_high, ..] = *head;
            let length = usize::try_from(u32::from_ne_bytes([a, b, c, d])).unwrap_or(usize::MAX);
            let kind = u16::from_ne_bytes([kind, kind_high]);
            stale = stale.and(Self::from_message(kind, datagram.get(HEAD + 1).copied()));
            let aligned = length.max(HEAD).saturating_add(3) & !3;
            datagram = datagram.get(aligned..).unwrap_or_default();
        }
        stale
    }

    fn from_message(kind: u16, prefix: Option<u8>) -> Self {
        match kind {
            libc::RTM_NEWROUTE | libc::RTM_DELROUTE => Self {
                interfaces: false,
                gateways: prefix == Some(0),
            },
            // A link that goes takes its routes along without a message.
            libc::RTM_NEWLINK | libc::RTM_DELLINK => EVERYTHING,
            libc::RTM_NEWADDR | libc::RTM_DELADDR => Self {
                interfaces: true,
                gateways: false,
            },
            _ => Self::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(16 + body.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn messages_say_what_is_old() {
        let interfaces = Stale {
            interfaces: true,
            gateways: false,
        };
        let gateways = Stale {
            interfaces: false,
            gateways: true,
        };
        let default = message(libc::RTM_NEWROUTE, &[2, 0, 0, 0]);
        let other = message(libc::RTM_DELROUTE, &[2, 24, 0, 0, 1]);
        let address = message(libc::RTM_NEWADDR, &[2, 32, 0, 0]);
        let link = message(libc::RTM_DELLINK, &[0; 16]);
        let rows = [
            (default.clone(), gateways),
            (other.clone(), Stale::default()),
            (address.clone(), interfaces),
            ([other.clone(), address].concat(), interfaces),
            ([other, link].concat(), EVERYTHING),
            (default[..15].to_vec(), Stale::default()),
            (Vec::new(), Stale::default()),
            (vec![0; 64], Stale::default()),
            (vec![0xff; 64], Stale::default()),
        ];
        for (datagram, expected) in rows {
            assert_eq!(Stale::from_datagram(&datagram), expected, "{datagram:?}");
        }
    }
}
