//! The virtual routers of one interface, side by side.
//!
//! Owns the way from a datagram to the virtual router it is for, and the count
//! of what was thrown away. IPv4 and IPv6 are separate even with one number
//! (RFC 9568 section 1.2). The shell of an interface calls it; no I/O here.

use std::collections::BTreeMap;
use std::time::Instant;

use super::event::{Effect, Event};
use super::machine::VirtualRouter;
use super::packet::{Datagram, Discard};
use super::settings::{Settings, SettingsError};

/// What tells the virtual routers of an interface apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The number.
    pub vrid: u8,
    /// Whether it is the one for IPv6.
    pub ipv6: bool,
}

/// All virtual routers of one interface.
#[derive(Debug, Default)]
pub struct Routers {
    routers: BTreeMap<Key, VirtualRouter>,
    discards: BTreeMap<Discard, u64>,
}

impl Routers {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one; gives back the one that had its place, which must be stopped.
    pub fn insert(&mut self, router: VirtualRouter) -> Option<VirtualRouter> {
        let settings = router.settings();
        let key = Key {
            vrid: settings.vrid,
            ipv6: settings.source.is_ipv6(),
        };
        self.routers.insert(key, router)
    }

    /// Takes one out, which must have been stopped.
    pub fn remove(&mut self, key: Key) -> Option<VirtualRouter> {
        self.routers.remove(&key)
    }

    /// All of them, to look at.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &VirtualRouter)> {
        self.routers.iter().map(|(key, router)| (*key, router))
    }

    /// How many messages were thrown away, by reason.
    pub fn discards(&self) -> &BTreeMap<Discard, u64> {
        &self.discards
    }

    /// When to come back with [`Self::timer`].
    pub fn deadline(&self) -> Option<Instant> {
        self.routers
            .values()
            .filter_map(VirtualRouter::deadline)
            .min()
    }

    /// Reads a datagram and hands it to the virtual router it is for.
    ///
    /// # Errors
    /// Why it was thrown away; it is counted already. Effects may come with it
    /// nevertheless: an alarm about somebody else's list of addresses is raised
    /// by the message that is thrown away for it.
    pub fn receive(
        &mut self,
        now: Instant,
        datagram: &Datagram<'_>,
    ) -> (Effects, Result<(), Discard>) {
        let (effects, result) = match self.deliver(now, datagram) {
            Ok((effects, reason)) => (effects, reason.map_or(Ok(()), Err)),
            Err(reason) => (Vec::new(), Err(reason)),
        };
        if let Err(reason) = result {
            *self.discards.entry(reason).or_default() += 1;
        }
        (effects, result)
    }

    fn deliver(
        &mut self,
        now: Instant,
        datagram: &Datagram<'_>,
    ) -> Result<(Effects, Option<Discard>), Discard> {
        let (advertisement, checksum) = datagram.decode()?;
        let source = datagram.source;
        let key = Key {
            vrid: advertisement.vrid,
            ipv6: source.is_ipv6(),
        };
        let router = self.routers.get_mut(&key).ok_or(Discard::UnknownVrid)?;
        let reason = router.accepts(source, &advertisement).err();
        let event = Event::Received {
            source,
            advertisement,
            checksum,
        };
        let effects = router.handle(now, event);
        Ok((
            effects.into_iter().map(|effect| (key, effect)).collect(),
            reason,
        ))
    }

    /// Hands an event to one virtual router; nothing happens when it is not there.
    pub fn handle(&mut self, now: Instant, key: Key, event: Event) -> Effects {
        let effects = self
            .routers
            .get_mut(&key)
            .map(|router| router.handle(now, event));
        effects
            .into_iter()
            .flatten()
            .map(|effect| (key, effect))
            .collect()
    }

    /// Hands an event to all of them: the link, a witness, a claim, a stop.
    pub fn handle_all(&mut self, now: Instant, event: &Event) -> Effects {
        let all = self.routers.iter_mut().flat_map(|(key, router)| {
            let effects = router.handle(now, event.clone());
            effects.into_iter().map(|effect| (*key, effect))
        });
        all.collect()
    }

    /// Gives one virtual router other settings; nothing happens when it is not there.
    ///
    /// # Errors
    /// Those of [`VirtualRouter::reconfigure`]; the old settings stay.
    pub fn reconfigure(
        &mut self,
        now: Instant,
        key: Key,
        settings: Settings,
    ) -> Result<Effects, SettingsError> {
        let Some(router) = self.routers.get_mut(&key) else {
            return Ok(Vec::new());
        };
        let effects = router.reconfigure(now, settings)?;
        Ok(effects.into_iter().map(|effect| (key, effect)).collect())
    }

    /// Wakes those whose time has come.
    pub fn timer(&mut self, now: Instant) -> Effects {
        let due = |router: &VirtualRouter| router.deadline().is_some_and(|due| due <= now);
        let waking = self.routers.iter_mut().filter(|(_, router)| due(router));
        let all = waking.flat_map(|(key, router)| {
            let effects = router.handle(now, Event::Timer);
            effects.into_iter().map(|effect| (*key, effect))
        });
        all.collect()
    }
}

/// What to do, in order, and for which virtual router.
pub type Effects = Vec<(Key, Effect)>;

#[cfg(test)]
mod tests;
