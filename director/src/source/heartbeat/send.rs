//! A receiver's voice: what it says, when, and to whom.
//!
//! Told are the directors of the settings, or else the virtual routers' peers, or
//! else the link's groups; a director tells itself, too. A change is told at once,
//! and the end three times, as a datagram may be lost and no other follows.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tidegate_shared::heartbeat::{GROUP_V4, GROUP_V6, Heartbeat, Key, Load, Receiving, State};
use tidegate_shared::shutdown::{Shutdown, Stage};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::super::address::Own;
use super::{changed, key, unbound};
use crate::config::Settings;
use crate::network::Snapshot;
use crate::receiver::ReceiverState;

/// How often the end is told.
const FAREWELLS: usize = 3;

/// From one farewell to the next.
const FAREWELL_GAP: Duration = Duration::from_millis(10);

/// Tells directors of this receiver until the shutdown begins, and then that it
/// leaves. Does nothing if heartbeats are switched off.
pub async fn report(
    settings: Arc<Settings>,
    mut receiver: watch::Receiver<Arc<ReceiverState>>,
    mut network: watch::Receiver<Arc<Snapshot>>,
    mut shutdown: Shutdown,
) {
    if !settings.sources.heartbeat.enabled {
        return;
    }
    let mut voice = Voice::new(&settings);
    loop {
        let own = Own::find(&settings, &network.borrow_and_update());
        let receiving = receiving(&receiver.borrow_and_update());
        if let Some(own) = own {
            voice.speak(own, receiving, State::Ready).await;
        }
        let wake = voice.next();
        tokio::select! {
            () = sleep_until(wake) => {}
            () = changed(&mut receiver) => {}
            () = changed(&mut network) => {}
            () = shutdown.reached(Stage::Draining) => break,
        }
    }
    let own = Own::find(&settings, &network.borrow());
    if let Some(own) = own {
        for _ in 0..FAREWELLS {
            let receiving = receiving(&receiver.borrow());
            voice.speak(own, receiving, State::Leaving).await;
            voice.repeat();
            sleep(FAREWELL_GAP).await;
        }
    }
}

fn receiving(state: &ReceiverState) -> Receiving {
    Receiving {
        in_place: state.in_place.clone(),
        is_hushed: state.hushed_by.is_some(),
    }
}

/// What was said, and how the next is to be.
struct Voice<'a> {
    settings: &'a Settings,
    key: Option<Key>,
    host: Option<String>,
    boot: u64,
    counter: u64,
    said: Option<(Heartbeat, Instant)>,
    is_failing: bool,
}

impl<'a> Voice<'a> {
    fn new(settings: &'a Settings) -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = host.trim().to_owned();
        Self {
            settings,
            key: key(&settings.sources.heartbeat),
            host: (!host.is_empty()).then_some(host),
            boot: fastrand::u64(..),
            counter: 0,
            said: None,
            is_failing: false,
        }
    }

    /// When something must be said again.
    fn next(&self) -> Instant {
        let interval = self.settings.sources.heartbeat.interval;
        let last = self.said.as_ref().map(|(_, at)| *at);
        last.unwrap_or_else(Instant::now) + interval
    }

    /// Lets the same be said again at once.
    fn repeat(&mut self) {
        self.said = None;
    }

    /// Says it, if it is new or was last said an interval ago.
    async fn speak(&mut self, own: Own, receiving: Receiving, state: State) {
        if own.v4.is_none() && own.v6.is_none() {
            return;
        }
        let now = Instant::now();
        let message = self.message(own, receiving, state);
        let said = self.said.as_ref();
        if said
            .is_some_and(|(last, at)| last.says_the_same(&message) && now < *at + message.interval)
        {
            return;
        }
        let sent = self.send(own, &message).await;
        match sent {
            Err(ref error) if !self.is_failing => {
                tracing::warn!(%error, "Can't tell a director of this receiver");
            }
            _ => {}
        }
        self.is_failing = sent.is_err();
        self.said = Some((message, now));
    }

    fn message(&self, own: Own, receiving: Receiving, state: State) -> Heartbeat {
        Heartbeat {
            boot: self.boot,
            counter: 0,
            state,
            interval: self.settings.sources.heartbeat.interval,
            v4: own.v4,
            v6: own.v6,
            receiving: Some(receiving),
            host: self.host.clone(),
            version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            weight: None,
            load: Load {
                cpu: cpu(),
                connections: None,
            },
        }
    }

    /// Sends it to all; the first error does not keep others from being told.
    /// Each datagram counts by itself, so that two to one director both count.
    async fn send(&mut self, own: Own, message: &Heartbeat) -> io::Result<()> {
        let mut result = Ok(());
        for target in targets(self.settings, own) {
            self.counter += 1;
            let message = Heartbeat {
                counter: self.counter,
                ..message.clone()
            };
            let bytes = message.encode(self.key.as_ref());
            result = result.and(send_to(target, own, &bytes).await);
        }
        result
    }
}

/// Where messages go.
fn targets(settings: &Settings, own: Own) -> Vec<SocketAddr> {
    let heartbeat = &settings.sources.heartbeat;
    let known = match heartbeat.directors.as_slice() {
        [] => settings.vrrp.peers.as_slice(),
        directors => directors,
    };
    let mut targets: Vec<IpAddr> = known.to_vec();
    if targets.is_empty() {
        targets.extend(own.v4.map(|_| IpAddr::V4(GROUP_V4)));
        targets.extend(own.v6.map(|_| IpAddr::V6(GROUP_V6)));
    } else if settings.roles.director {
        let own: Vec<IpAddr> = own.addresses().collect();
        targets.retain(|it| !own.contains(it));
        targets.push(Ipv4Addr::LOCALHOST.into());
    }
    let scoped = |address: IpAddr| match address {
        IpAddr::V4(address) => (address, heartbeat.port).into(),
        IpAddr::V6(address) => v6(address, heartbeat.port, own.index),
    };
    targets.into_iter().map(scoped).collect()
}

/// Link-local addresses and groups are those of the clients' interface.
fn v6(address: Ipv6Addr, port: u16, index: u32) -> SocketAddr {
    let needs_scope = address.is_unicast_link_local() || address.is_multicast();
    SocketAddrV6::new(address, port, 0, if needs_scope { index } else { 0 }).into()
}

/// A socket for each datagram: links come and go, and these are few.
async fn send_to(target: SocketAddr, own: Own, bytes: &[u8]) -> io::Result<()> {
    let socket = UdpSocket::bind(unbound(target, 0)).await?;
    if target.ip().is_multicast() {
        let options = SockRef::from(&socket);
        match (target, own.v4) {
            (SocketAddr::V4(_), Some(address)) => options.set_multicast_if_v4(&address)?,
            (SocketAddr::V4(_), None) => {}
            (SocketAddr::V6(_), _) => options.set_multicast_if_v6(own.index)?,
        }
    }
    socket.send_to(bytes, target).await.map(drop)
}

/// How busy the processors are: the load of the last minute for each of them,
/// in thousandths.
fn cpu() -> Option<u16> {
    let load = std::fs::read_to_string("/proc/loadavg").ok()?;
    let (whole, hundredths) = load.split_whitespace().next()?.split_once('.')?;
    let hundredths =
        whole.parse::<u32>().ok()?.checked_mul(100)? + hundredths.parse::<u32>().ok()?;
    let processors = std::thread::available_parallelism().ok()?.get();
    let each = hundredths.checked_mul(10)? / u32::try_from(processors).ok()?;
    Some(u16::try_from(each).unwrap_or(u16::MAX))
}
