//! The loop of the election: what comes in, in which order it is told.
//!
//! Owns the virtual routers and the moment at which they are woken. Messages
//! that wait in the sockets always come before a timer. What follows from an
//! event is carried out (`act`) before the next one; what the kernel says of the
//! interface is `arrange`'s.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_shared::shutdown::Stage;
use tokio::sync::{mpsc, watch};

use super::handover::Handover;
use super::seat::Seat;
use super::wire::{Heard, Wire};
use super::{ElectionError, Parts};
use crate::model::{Family, KernelName};
use crate::network::Interface;
use crate::view::{Ask, VrrpState};
use crate::vrrp::link::Claim;
use crate::vrrp::packet::Datagram;
use crate::vrrp::{Event, Key, Routers, State, VirtualRouter};

/// The loop comes by at least this often: to look at the addresses, to open what
/// could not be opened, and since the machine asks for it.
const TICK: Duration = Duration::from_millis(500);

/// So many batches are taken before timers have their turn, whatever comes in.
const ROUNDS: usize = 8;

/// The shell of the virtual routers of one interface.
pub(super) struct Shell {
    pub(super) parts: Parts,
    pub(super) routers: Routers,
    /// One for each family that has virtual addresses.
    pub(super) seats: BTreeMap<Key, Seat>,
    pub(super) wire: Option<Wire>,
    /// The clients' interface as of the last look.
    pub(super) interface: Option<Interface>,
    /// Its name, once it was found.
    pub(super) chosen: Option<KernelName>,
    pub(super) witnesses: Vec<IpAddr>,
    /// Where the next question to the witnesses begins.
    pub(super) asked: usize,
    /// Those for whose sake the services are in the kernel.
    pub(super) programmed: std::collections::BTreeSet<Key>,
    /// What is waited for, so that it is said once.
    pub(super) waits_for: Option<String>,
    pub(super) handover: Option<Handover>,
    stage: Stage,
    tick: Instant,
}

/// Why the loop woke.
enum Woken {
    /// A message waits, or time has passed.
    Due,
    /// The links, the nodes or the table changed.
    Changed,
    Asked(Ask),
    Stopped,
}

impl Shell {
    pub(super) fn new(parts: Parts) -> Self {
        let settings = &parts.settings;
        let name = settings.interface.clone();
        let nowhere = KernelName::new("none").expect("a fixed name is a name");
        let name = name.unwrap_or(nowhere);
        let families = [Family::V4, Family::V6].into_iter();
        let seats = families.filter_map(|family| {
            let addresses: Vec<_> = settings.vips_of(family).map(|vip| vip.address).collect();
            let vrid = settings.vrrp.vrid;
            let ipv6 = family == Family::V6;
            let seat = || Seat::new(vrid, addresses.clone(), name.clone());
            (!addresses.is_empty()).then(|| (Key { vrid, ipv6 }, seat()))
        });
        Self {
            seats: seats.collect(),
            parts,
            routers: Routers::new(),
            wire: None,
            interface: None,
            chosen: None,
            witnesses: Vec::new(),
            asked: 0,
            programmed: std::collections::BTreeSet::new(),
            waits_for: None,
            handover: None,
            stage: Stage::Running,
            tick: Instant::now(),
        }
    }

    /// Runs until the end is asked for and reached.
    pub(super) async fn run(mut self) -> Result<(), ElectionError> {
        self.publish();
        if self.parts.settings.dry_run {
            return self.pretend().await;
        }
        let end = self.serve().await;
        self.leave_nothing().await;
        end
    }

    async fn serve(&mut self) -> Result<(), ElectionError> {
        self.arrange().await?;
        while !self.is_over() {
            self.listen().await;
            let now = Instant::now();
            let effects = self.routers.timer(now);
            self.carry_out(effects, now).await;
            if now >= self.tick {
                self.tick = now + TICK;
                self.arrange().await?;
                self.publish();
            }
            match self.wait().await {
                Woken::Due => {}
                Woken::Changed => self.arrange().await?,
                Woken::Asked(ask) => self.ask(ask).await,
                Woken::Stopped => self.stop().await,
            }
        }
        Ok(())
    }

    /// Nothing of this machine is changed and nobody is spoken to.
    async fn pretend(&mut self) -> Result<(), ElectionError> {
        for key in self.seats.keys().copied().collect::<Vec<_>>() {
            if let Err(reason) = self.program(key).await {
                tracing::warn!(reason, "The table was not taken");
            }
        }
        loop {
            tokio::select! {
                () = self.parts.shutdown.reached(Stage::Draining) => return Ok(()),
                (_, answer) = next_ask(&mut self.parts.asks) => {
                    // Whoever asked may be gone.
                    let _ = answer.send(Err("there is no election here: this is a dry run".to_owned()));
                }
            }
        }
    }

    async fn wait(&mut self) -> Woken {
        let due = self.routers.deadline().into_iter().chain([self.tick]).min();
        let due = due.unwrap_or(self.tick);
        let next = match self.stage {
            Stage::Running => Stage::Draining,
            Stage::Draining | Stage::Immediate => Stage::Immediate,
        };
        let Parts {
            network,
            roster,
            control,
            asks,
            shutdown,
            ..
        } = &mut self.parts;
        tokio::select! {
            () = readable(self.wire.as_ref()) => Woken::Due,
            () = tokio::time::sleep_until(due.into()) => Woken::Due,
            () = changed(network) => Woken::Changed,
            () = changed(roster) => Woken::Changed,
            () = troubled(control, self.seats.values().any(|seat| seat.retry.is_some())) => Woken::Changed,
            ask = next_ask(asks) => Woken::Asked(ask),
            () = shutdown.reached(next) => Woken::Stopped,
        }
    }

    /// Hands over everything that waits.
    pub(super) async fn listen(&mut self) {
        for _ in 0..ROUNDS {
            let mut heard = Vec::new();
            let Some(wire) = &self.wire else { return };
            let is_more = wire.take(&mut heard);
            let mut has_witness = false;
            for one in heard {
                has_witness |= self.hear(one).await;
            }
            if has_witness {
                self.tell_all(&Event::Witness).await;
            }
            if !is_more {
                return;
            }
        }
    }

    /// Hands over one thing. Says whether it is the sign of life of a witness.
    async fn hear(&mut self, heard: Heard) -> bool {
        match heard {
            Heard::Malformed(reason) => {
                let seat = self.seats.values_mut().next();
                if let Some(seat) = seat {
                    seat.discard(reason.to_string());
                }
                false
            }
            Heard::Claim(claim) => self.hear_claim(claim).await,
            Heard::Datagram {
                source,
                destination,
                hop_limit,
                message,
            } => {
                let message = message.as_slice();
                let datagram = Datagram {
                    source,
                    destination,
                    hop_limit,
                    message,
                };
                self.hear_datagram(&datagram).await;
                false
            }
        }
    }

    async fn hear_datagram(&mut self, datagram: &Datagram<'_>) {
        let now = Instant::now();
        let (effects, result) = self.routers.receive(now, datagram);
        let ipv6 = datagram.source.is_ipv6();
        let mut seats = self.seats.iter_mut();
        if let Some((_, seat)) = seats.find(|(key, _)| key.ipv6 == ipv6) {
            match result {
                Ok(()) => seat.shown.received += 1,
                Err(reason) => seat.discard(reason.to_string()),
            }
        }
        self.carry_out(effects, now).await;
    }

    async fn hear_claim(&mut self, claim: Claim) -> bool {
        let Claim { hardware, address } = claim;
        let mut seats = self.seats.iter();
        let ours = seats.find(|(_, seat)| seat.shown.addresses.contains(&address));
        if let Some((&key, _)) = ours {
            self.tell(key, Event::Claimed { address, hardware }).await;
        }
        self.witnesses.contains(&address)
    }

    /// Tells one virtual router, and carries out what follows.
    pub(super) async fn tell(&mut self, key: Key, event: Event) {
        let now = Instant::now();
        let effects = self.routers.handle(now, key, event);
        self.carry_out(effects, now).await;
    }

    /// Tells all of them.
    pub(super) async fn tell_all(&mut self, event: &Event) {
        let now = Instant::now();
        let effects = self.routers.handle_all(now, event);
        self.carry_out(effects, now).await;
    }

    pub(super) fn router(&self, key: Key) -> Option<&VirtualRouter> {
        let mut routers = self.routers.iter();
        routers.find_map(|(other, router)| (other == key).then_some(router))
    }

    pub(super) fn state(&self, key: Key) -> State {
        self.router(key)
            .map_or(State::Initialize, VirtualRouter::state)
    }

    async fn stop(&mut self) {
        self.stage = self.parts.shutdown.stage();
        // Without an election nobody would take over.
        if !self.parts.settings.vrrp.enabled {
            self.stage = Stage::Immediate;
        }
        if self.stage == Stage::Draining {
            self.tell_all(&Event::Stop).await;
        }
    }

    /// Whether nothing new is to begin.
    pub(super) fn is_stopping(&self) -> bool {
        self.stage > Stage::Running
    }

    fn is_over(&self) -> bool {
        let mut routers = self.routers.iter();
        let mut is_idle = || routers.all(|(_, router)| router.state() == State::Initialize);
        self.stage == Stage::Immediate || (self.stage == Stage::Draining && is_idle())
    }

    /// Shows the virtual routers to the others.
    pub(super) fn publish(&mut self) {
        for (key, router) in self.routers.iter() {
            if let Some(seat) = self.seats.get_mut(&key) {
                seat.show(router);
            }
        }
        let routers = self.seats.values().map(|seat| seat.shown.clone());
        let state = VrrpState {
            routers: routers.collect(),
        };
        self.parts.state.send_replace(Arc::new(state));
    }
}

async fn readable(wire: Option<&Wire>) {
    match wire {
        Some(wire) => wire.readable().await,
        None => std::future::pending().await,
    }
}

/// A change; none ever comes from somebody who is gone.
async fn changed<T>(watch: &mut watch::Receiver<T>) {
    if watch.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn troubled<T>(watch: &mut watch::Receiver<T>, is_waiting: bool) {
    if is_waiting {
        changed(watch).await;
    } else {
        std::future::pending::<()>().await;
    }
}

async fn next_ask(asks: &mut mpsc::Receiver<Ask>) -> Ask {
    match asks.recv().await {
        Some(ask) => ask,
        None => std::future::pending().await,
    }
}
