//! Carrying out what the virtual routers ask for, strictly in order.
//!
//! Owns the way from an [`Effect`] to the table, the interface and the link. A
//! refusal by the kernel ends the series and is told to the virtual router it
//! concerns; a message that can't be sent is counted and ends nothing.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::shell::Shell;
use super::{wire, words};
use crate::model::Family;
use crate::network::{AddressUse, NetworkError};
use crate::view::Order;
use crate::vrrp::{Alarm, Cause, Effect, Event, Key, State, link};

/// How long the table may take. A backup elsewhere takes over in less.
const PROGRAMMING: Duration = Duration::from_secs(5);

/// How long an address may take.
const ADDRESSING: Duration = Duration::from_secs(2);

/// So many witnesses are asked at a time, in turn: a large network must not hear
/// hundreds of questions in every interval.
const QUESTIONS: usize = 8;

impl Shell {
    /// Carries out effects that were decided at `begun`.
    pub(super) async fn carry_out(&mut self, effects: Vec<(Key, Effect)>, begun: Instant) {
        let mut queue = VecDeque::from(effects);
        let mut has_changed = false;
        while let Some((key, effect)) = queue.pop_front() {
            has_changed |= matches!(effect, Effect::Entered { .. } | Effect::Alarm(_));
            let Err(reason) = self.act(key, effect, begun).await else {
                continue;
            };
            queue.retain(|(other, _)| *other != key);
            queue.extend(self.refuse(key, reason));
        }
        if has_changed {
            self.publish();
        }
    }

    /// The kernel refuses: the virtual router gives up until it is tried again.
    fn refuse(&mut self, key: Key, reason: String) -> Vec<(Key, Effect)> {
        let now = Instant::now();
        let decision = "cannot serve and leaves it to other machines";
        self.record(key, decision, reason);
        if let Some(seat) = self.seats.get_mut(&key) {
            seat.put_off(now);
        }
        self.routers.handle(now, key, Event::Fit(false))
    }

    async fn act(&mut self, key: Key, effect: Effect, begun: Instant) -> Result<(), String> {
        match effect {
            Effect::Program => return self.program(key).await,
            Effect::Withdraw => self.withdraw(key).await,
            Effect::AddAddresses => return self.add_addresses(key).await,
            Effect::RemoveAddresses => self.remove_addresses(key, self.addresses(key)).await,
            Effect::DropAddresses(gone) => self.remove_addresses(key, gone).await,
            Effect::Send {
                destination,
                message,
            } => self.send(key, destination, &message),
            Effect::Announce => self.announce(key, begun),
            Effect::ProbeAddresses => self.probe_addresses(key),
            Effect::ProbeWitness => self.probe_witnesses(key),
            Effect::Alarm(alarm) => self.alarm(key, alarm),
            Effect::Entered { state, cause } => self.entered(key, state, cause),
        }
        Ok(())
    }

    /// Puts the services of a virtual router's family into the kernel.
    pub(super) async fn program(&mut self, key: Key) -> Result<(), String> {
        let family = family(key);
        self.order(|answer| Order::Program(family, answer)).await?;
        self.programmed.insert(key);
        Ok(())
    }

    /// Takes them out.
    pub(super) async fn withdraw(&mut self, key: Key) {
        self.programmed.remove(&key);
        let family = family(key);
        let done = self.order(|answer| Order::Withdraw(family, answer)).await;
        if let Err(reason) = done {
            self.record(key, "could not take the services out of the kernel", reason);
        }
    }

    async fn order(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<(), String>>) -> Order,
    ) -> Result<(), String> {
        let (sender, answer) = oneshot::channel();
        let exchange = async {
            let gone = || "nobody programs the kernel any more".to_owned();
            self.parts
                .orders
                .send(order(sender))
                .await
                .map_err(|_| gone())?;
            answer.await.map_err(|_| gone())?
        };
        let late = |_| "the kernel's table was not ready in time".to_owned();
        tokio::time::timeout(PROGRAMMING, exchange)
            .await
            .map_err(late)?
    }

    fn addresses(&self, key: Key) -> Vec<IpAddr> {
        let seat = self.seats.get(&key);
        seat.map(|seat| seat.shown.addresses.clone())
            .unwrap_or_default()
    }

    async fn add_addresses(&mut self, key: Key) -> Result<(), String> {
        let index = self.index().ok_or("the interface is gone")?;
        for address in self.addresses(key) {
            let prefix = Family::of(address).bits();
            let links = &self.parts.links;
            let adding = links.add_address(index, address, prefix, AddressUse::Held);
            in_time(adding)
                .await
                .map_err(|reason| format!("cannot set {address}: {reason}"))?;
        }
        if let Some(seat) = self.seats.get_mut(&key) {
            seat.moved = Some(Instant::now());
            seat.shown.is_holding = true;
            seat.is_fine();
        }
        Ok(())
    }

    /// What stays in spite of that is found by the next look at the interface.
    pub(super) async fn remove_addresses(&mut self, key: Key, addresses: Vec<IpAddr>) {
        // With the interface its addresses are gone.
        let index = self.index();
        let there = index.map(|index| addresses.into_iter().map(move |it| (index, it)));
        for (index, address) in there.into_iter().flatten() {
            let prefix = Family::of(address).bits();
            let removing = self.parts.links.remove_address(index, address, prefix);
            if let Err(reason) = in_time(removing).await {
                let reason = format!("{address}: {reason}");
                self.record(key, "could not take an address off the interface", reason);
            }
        }
        if let Some(seat) = self.seats.get_mut(&key) {
            seat.moved = Some(Instant::now());
            seat.shown.is_holding = false;
        }
    }

    pub(super) fn index(&self) -> Option<u32> {
        self.interface.as_ref().map(|interface| interface.index)
    }

    fn send(&mut self, key: Key, destination: IpAddr, message: &[u8]) {
        if !self.parts.settings.vrrp.enabled {
            return;
        }
        let sent = match &self.wire {
            Some(wire) => wire.send(destination, message),
            None => Err(std::io::ErrorKind::NotConnected.into()),
        };
        if let Some(seat) = self.seats.get_mut(&key) {
            match sent {
                Ok(()) => seat.shown.sent += 1,
                Err(error) => seat.complain(&error),
            }
        }
    }

    /// Tells the link where the addresses are, in every form.
    fn announce(&mut self, key: Key, begun: Instant) {
        let Some(interface) = &self.interface else {
            return;
        };
        let router = key.ipv6 && wire::is_router(interface);
        let Some(hardware) = interface.hardware else {
            return;
        };
        for address in self.addresses(key) {
            for frame in link::announcements(hardware, address, router) {
                if self.send_frame(key, &frame) {
                    self.count_announcement(key);
                }
            }
        }
        if let Some(seat) = self.seats.get_mut(&key)
            && seat.shown.state != State::Master
        {
            seat.shown.takeover = Some(begun.elapsed());
        }
    }

    fn count_announcement(&mut self, key: Key) {
        if let Some(seat) = self.seats.get_mut(&key) {
            seat.shown.announcements += 1;
        }
    }

    fn send_frame(&mut self, key: Key, frame: &[u8]) -> bool {
        self.send_frame_of(key, key.ipv6, frame)
    }

    fn send_frame_of(&mut self, key: Key, ipv6: bool, frame: &[u8]) -> bool {
        let Some(wire) = &self.wire else {
            return false;
        };
        let sent = wire.send_frame(ipv6, frame);
        if let (Err(error), Some(seat)) = (&sent, self.seats.get_mut(&key)) {
            seat.complain(error);
        }
        sent.is_ok()
    }

    fn probe_addresses(&mut self, key: Key) {
        let Some(hardware) = self.interface.as_ref().and_then(|it| it.hardware) else {
            return;
        };
        for address in self.addresses(key) {
            self.send_frame(key, &link::probe(hardware, address));
        }
    }

    /// Asks the next few, whatever their family: a neighbour is a neighbour.
    fn probe_witnesses(&mut self, key: Key) {
        let Some(hardware) = self.interface.as_ref().and_then(|it| it.hardware) else {
            return;
        };
        let all = self.witnesses.iter().cycle().skip(self.asked);
        let next: Vec<_> = all
            .take(QUESTIONS.min(self.witnesses.len()))
            .copied()
            .collect();
        self.asked = (self.asked + next.len()) % self.witnesses.len().max(1);
        let sources = self.sources();
        for witness in next {
            let mut questions = sources
                .iter()
                .filter_map(|source| link::question(hardware, *source, witness));
            if let Some(question) = questions.next() {
                self.send_frame_of(key, witness.is_ipv6(), &question);
            }
        }
    }

    fn sources(&self) -> Vec<IpAddr> {
        let routers = self.routers.iter();
        routers
            .map(|(_, router)| router.settings().source)
            .collect()
    }

    fn alarm(&mut self, key: Key, alarm: Alarm) {
        let (what, why) = words::alarm(&alarm);
        self.parts.journal.alarm("vrrp", &subject(key), what, why);
        if let Some(seat) = self.seats.get_mut(&key) {
            seat.remember(Instant::now(), alarm);
        }
    }

    fn entered(&mut self, key: Key, state: State, cause: Cause) {
        let mut why = words::cause(cause);
        if let Some(seat) = self.seats.get_mut(&key) {
            seat.has_complained = false;
            let shown = &mut seat.shown;
            (shown.state, shown.cause, shown.since) = (state, Some(cause), Instant::now());
            shown.transitions += 1;
            if let (State::Master, Some(took)) = (state, shown.takeover) {
                why = format!("{why}; announced after {took:.1?}");
            }
        }
        self.record(key, words::state(state), why);
        self.note_handover(key, state, cause);
    }

    pub(super) fn record(&self, key: Key, decision: &str, cause: impl Into<String>) {
        let journal = &self.parts.journal;
        journal.record("vrrp", &subject(key), decision, cause);
    }

    /// At the end: whatever is left of ours goes, addresses first.
    pub(super) async fn leave_nothing(&mut self) {
        for key in self.seats.keys().copied().collect::<Vec<_>>() {
            let serves = self
                .seats
                .get(&key)
                .is_some_and(|seat| seat.shown.is_holding || seat.shown.state != State::Initialize);
            if serves || self.programmed.contains(&key) {
                self.remove_addresses(key, self.addresses(key)).await;
                self.withdraw(key).await;
                self.entered(key, State::Initialize, Cause::Stopped);
            }
        }
        self.publish();
    }
}

fn family(key: Key) -> Family {
    match key.ipv6 {
        true => Family::V6,
        false => Family::V4,
    }
}

async fn in_time(change: impl Future<Output = Result<(), NetworkError>>) -> Result<(), String> {
    let late = |_| "no answer from the kernel in time".to_owned();
    let changed = tokio::time::timeout(ADDRESSING, change)
        .await
        .map_err(late)?;
    changed.map_err(|error| error.to_string())
}

fn subject(key: Key) -> String {
    let family = if key.ipv6 { "IPv6" } else { "IPv4" };
    format!("virtual router {} ({family})", key.vrid)
}
