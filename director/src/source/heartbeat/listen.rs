//! A director's ear: the sockets, and reports of what is heard.
//!
//! Listens on every address of the machine, and in the link's groups on the
//! clients' interface. A socket that can't be had is tried again; what was heard
//! ages meanwhile.

use std::future::poll_fn;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tidegate_shared::heartbeat::{GROUP_V4, GROUP_V6, MAX_LENGTH};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::super::address::Own;
use super::super::roster::Report;
use super::super::{Origin, SourceState};
use super::peers::{Peers, Refusal};
use super::{changed, key, unbound};
use crate::config::Settings;
use crate::journal::Journal;
use crate::network::Snapshot;

/// How often what is heard is reported at most, however much is new.
const GAP: Duration = Duration::from_millis(20);

/// How often ages are reported if nothing is new.
const REFRESH: Duration = Duration::from_secs(1);

/// How soon a port that can't be listened on is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// How long to leave a socket alone that failed.
const PAUSE: Duration = Duration::from_millis(100);

/// How often it is told that messages of one kind are not believed.
const TOLD: Duration = Duration::from_secs(60);

/// Listens until the reports' receiver is gone.
pub(in super::super) async fn listen(
    settings: &Settings,
    mut network: watch::Receiver<Arc<Snapshot>>,
    reports: &mpsc::Sender<Report>,
    journal: &Journal,
) {
    let mut ear = Ear::new(settings, journal);
    loop {
        let own = Own::find(settings, &network.borrow_and_update());
        let index = own.map(|own| own.index);
        ear.peers
            .set_own(own.iter().flat_map(Own::addresses).collect());
        let sockets = Sockets::open(settings.sources.heartbeat.port, index);
        let (sockets, error) = match sockets {
            Ok((sockets, error)) => (sockets, error),
            Err(error) => (Sockets(Vec::new()), Some(error.to_string())),
        };
        ear.set_sockets(&sockets, error);
        let moved = async {
            loop {
                changed(&mut network).await;
                if Own::find(settings, &network.borrow_and_update()) != own {
                    return;
                }
            }
        };
        tokio::select! {
            is_wanted = ear.session(&sockets, reports) => if !is_wanted { return },
            () = moved => {}
        }
    }
}

/// What is heard, and when it was last told of.
struct Ear<'a> {
    peers: Peers,
    journal: &'a Journal,
    /// After that time whoever speaks has been heard.
    settle: Duration,
    since: Option<Instant>,
    error: Option<String>,
    retry: Option<Instant>,
    report_at: Instant,
    reported: Instant,
    told: [Option<Instant>; 6],
    only_hints: bool,
}

impl<'a> Ear<'a> {
    fn new(settings: &Settings, journal: &'a Journal) -> Self {
        let heartbeat = &settings.sources.heartbeat;
        let now = Instant::now();
        Self {
            peers: Peers::new(key(heartbeat), &settings.vips),
            journal,
            settle: heartbeat.interval * 3,
            since: None,
            error: None,
            retry: None,
            report_at: now,
            reported: now,
            told: [None; 6],
            only_hints: heartbeat.key.is_none(),
        }
    }

    fn set_sockets(&mut self, sockets: &Sockets, error: Option<String>) {
        let now = Instant::now();
        if sockets.0.is_empty() {
            self.since = None;
        } else {
            self.since = self.since.or(Some(now));
        }
        self.retry = error.is_some().then_some(now + RETRY);
        self.error = error;
        self.report_at = now;
    }

    /// Hears until sockets must be opened anew; no if nobody wants reports.
    async fn session(&mut self, sockets: &Sockets, reports: &mpsc::Sender<Report>) -> bool {
        let mut buffer = vec![0; MAX_LENGTH + 1];
        loop {
            let now = Instant::now();
            if self.report_at <= now {
                self.reported = now;
                self.report_at = now + REFRESH;
                if reports.send(self.report(now)).await.is_err() {
                    return false;
                }
            }
            let next_change = self.peers.next_change(now);
            let wake = [Some(self.report_at), next_change, self.retry];
            let wake = wake.into_iter().flatten().min().unwrap_or(self.report_at);
            tokio::select! {
                received = sockets.receive(&mut buffer) => match received {
                    Ok((length, from)) => {
                        self.hear(buffer.get(..length).unwrap_or_default(), from);
                    }
                    Err(error) => {
                        self.error = Some(error.to_string());
                        self.retry = Some(Instant::now() + RETRY);
                        sleep(PAUSE).await;
                    }
                },
                () = sleep_until(wake) => {
                    let now = Instant::now();
                    if self.retry.is_some_and(|at| at <= now) {
                        return true;
                    }
                    self.report_at = self.report_at.min(now);
                }
            }
        }
    }

    fn hear(&mut self, bytes: &[u8], from: SocketAddr) {
        let now = Instant::now();
        match self.peers.hear(bytes, from.ip().to_canonical(), now) {
            Ok(false) => {}
            Ok(true) => self.report_at = self.report_at.min(self.reported + GAP),
            Err(refusal) => self.tell(&refusal, from, now),
        }
    }

    /// Tells why a message is not believed, if that was not told lately.
    fn tell(&mut self, refusal: &Refusal, from: SocketAddr, now: Instant) {
        let told = refusal.kind().and_then(|kind| self.told.get_mut(kind));
        let Some(told) = told.filter(|it| it.is_none_or(|at| at + TOLD <= now)) else {
            tracing::debug!(client.addr = %from, error = %refusal, "Ignored a heartbeat");
            return;
        };
        *told = Some(now);
        let (subject, cause) = (from.ip().to_canonical(), refusal.to_string());
        let decision = "messages of the sender are not believed";
        self.journal.record("source", &subject, decision, cause);
    }

    fn report(&self, now: Instant) -> Report {
        let settled = self.since.is_some_and(|since| since + self.settle <= now);
        Report {
            origin: Origin::Heartbeat,
            state: SourceState {
                answered: settled.then(|| now.into_std()),
                error: self.error.clone(),
            },
            only_hints: self.only_hints,
            nodes: self.peers.nodes(now),
        }
    }
}

/// One socket for each family.
struct Sockets(Vec<UdpSocket>);

impl Sockets {
    /// Those of the families that the machine has, and why they do not hear all.
    fn open(port: u16, index: Option<u32>) -> io::Result<(Self, Option<String>)> {
        let v4 = bind(Domain::IPV4, port)?;
        let mut sockets = vec![v4];
        // A machine without IPv6 is no trouble.
        sockets.extend(bind(Domain::IPV6, port).ok());
        let joined = match index {
            Some(index) => sockets.iter().try_for_each(|it| join(it, index)).err(),
            None => None,
        };
        let error = joined.map(|error| format!("can't listen to the link's group: {error}"));
        let sockets = sockets.into_iter().map(|it| UdpSocket::from_std(it.into()));
        Ok((Self(sockets.collect::<Result<_, _>>()?), error))
    }

    /// The next datagram; never if there is no socket.
    async fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        poll_fn(|context| {
            for socket in &self.0 {
                let mut read = ReadBuf::new(buffer);
                if let Poll::Ready(from) = socket.poll_recv_from(context, &mut read) {
                    let length = read.filled().len();
                    return Poll::Ready(from.map(|from| (length, from)));
                }
            }
            Poll::Pending
        })
        .await
    }
}

fn bind(domain: Domain, port: u16) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    let any = if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
        (Ipv6Addr::UNSPECIFIED, port).into()
    } else {
        unbound((GROUP_V4, port).into(), port)
    };
    let bound = socket.bind(&SocketAddr::into(any));
    bound.map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("can't listen on UDP port {port}: {error}"),
        )
    })?;
    Ok(socket)
}

fn join(socket: &Socket, index: u32) -> io::Result<()> {
    if socket.domain()? == Domain::IPV6 {
        socket.join_multicast_v6(&GROUP_V6, index)
    } else {
        socket.join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(index))
    }
}
