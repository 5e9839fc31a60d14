//! Which messages are believed, and what they make of nodes.
//!
//! Pure. Messages are kept by boot. Of a boot each must have a higher counter than
//! the last; that a message was recorded and is played again is so noticed even
//! long after its sender is gone. A boot may speak for an address only while no
//! other one does that is still heard and has not left: a node that was restarted
//! without a word is believed after three intervals. What was recorded before this
//! director started can be played to it while the node itself is silent; that can
//! drain or hint, and cannot make a dead node used, which is for checks to say.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use tidegate_shared::heartbeat::{Heartbeat, HeartbeatError, Key, MAX_VIRTUAL, State};
use tokio::time::Instant;

use super::super::Stance;
use super::super::address::refusal;
use super::super::roster::Said;
use crate::config::Vip;
use crate::model::Family;

/// The most boots that are remembered; those that were silent longest go first.
pub(super) const MOST: usize = 1024;

/// So many intervals without a message are a silence.
const MISSED: u32 = 3;

/// How long a silent node is kept.
const KEPT: Duration = Duration::from_secs(60);

/// The greatest weight that is believed, as large as in any tool for IPVS.
const HEAVIEST: u32 = 65_535;

/// Intervals that a sender may claim.
const INTERVAL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(10));

/// Why a message is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Unreadable(#[from] HeartbeatError),
    #[error("it is older than the last one of its sender")]
    Replayed,
    #[error("it speaks for no address")]
    Nameless,
    #[error("it speaks for {0}, which {1}")]
    Unusable(IpAddr, &'static str),
    #[error("it is not signed and speaks for another address than its own")]
    NotItsOwn,
    #[error("it speaks for an address that another sender speaks for, or did a moment ago")]
    Contested,
    #[error("too many senders are heard")]
    TooMany,
}

impl Refusal {
    /// Which kind it is, to tell of each kind but rarely. Nothing: not at all,
    /// as it happens without anybody's fault.
    pub(super) fn kind(&self) -> Option<usize> {
        Some(match self {
            Self::Replayed => return None,
            Self::Unreadable(HeartbeatError::Signature) => 0,
            Self::Unreadable(HeartbeatError::Unsigned | HeartbeatError::NoKey) => 1,
            Self::Unreadable(_) => 2,
            Self::Nameless | Self::Unusable(..) | Self::NotItsOwn => 3,
            Self::Contested => 4,
            Self::TooMany => 5,
        })
    }
}

/// What was last heard of a boot.
#[derive(Debug)]
struct Heard {
    message: Heartbeat,
    addresses: Vec<IpAddr>,
    at: Instant,
}

impl Heard {
    fn silent_from(&self) -> Instant {
        self.at + self.message.interval.clamp(INTERVAL.0, INTERVAL.1) * MISSED
    }

    fn kept_until(&self) -> Instant {
        self.silent_from() + KEPT
    }

    fn has_left(&self) -> bool {
        self.message.state == State::Leaving
    }

    /// May nobody else speak for its addresses?
    fn is_live(&self, now: Instant) -> bool {
        now < self.silent_from() && !self.has_left()
    }
}

/// All that is heard.
#[derive(Debug)]
pub(super) struct Peers {
    key: Option<Key>,
    vips: Vec<Vip>,
    /// This machine's addresses.
    own: Vec<IpAddr>,
    boots: HashMap<u64, Heard>,
}

impl Peers {
    pub(super) fn new(key: Option<Key>, vips: &[Vip]) -> Self {
        Self {
            key,
            vips: vips.to_vec(),
            own: Vec::new(),
            boots: HashMap::new(),
        }
    }

    /// Which addresses are this machine's: hearing itself, it hears no network.
    pub(super) fn set_own(&mut self, own: Vec<IpAddr>) {
        self.own = own;
    }

    /// Takes a message in; says whether it says anything new.
    pub(super) fn hear(
        &mut self,
        bytes: &[u8],
        from: IpAddr,
        now: Instant,
    ) -> Result<bool, Refusal> {
        let message = Heartbeat::decode(bytes, self.key.as_ref())?;
        let addresses = self.believed(&message, from)?;
        let boot = message.boot;
        let known = self.boots.get(&boot);
        if known.is_some_and(|it| message.counter <= it.message.counter) {
            return Err(Refusal::Replayed);
        }
        let mut others = self.boots.iter().filter(|(other, _)| **other != boot);
        if others.any(|(_, it)| it.is_live(now) && shares(&it.addresses, &addresses)) {
            return Err(Refusal::Contested);
        }
        let is_news = known.is_none_or(|it| {
            let is_same = it.message.says_the_same(&message) && it.addresses == addresses;
            !is_same || now >= it.silent_from()
        });
        if known.is_none() && self.boots.len() >= MOST {
            self.forget_one(now)?;
        }
        let heard = Heard {
            message,
            addresses,
            at: now,
        };
        self.boots.insert(boot, heard);
        Ok(is_news)
    }

    /// The addresses that a message from `from` may speak for.
    fn believed(&self, message: &Heartbeat, from: IpAddr) -> Result<Vec<IpAddr>, Refusal> {
        let mut addresses: Vec<_> = message.addresses().collect();
        if addresses.is_empty() {
            return Err(Refusal::Nameless);
        }
        for address in &addresses {
            if let Some(why) = refusal(*address, &self.vips) {
                return Err(Refusal::Unusable(*address, why));
            }
        }
        // Only this machine itself sends from a loopback address.
        if self.key.is_none() && !from.is_loopback() {
            addresses.retain(|it| *it == from);
            if addresses.is_empty() {
                return Err(Refusal::NotItsOwn);
            }
        }
        Ok(addresses)
    }

    /// Makes room for another boot.
    fn forget_one(&mut self, now: Instant) -> Result<(), Refusal> {
        let silent = self.boots.iter().filter(|(_, it)| !it.is_live(now));
        let oldest = silent.min_by_key(|(_, it)| it.at).map(|(boot, _)| *boot);
        let oldest = oldest.ok_or(Refusal::TooMany)?;
        self.boots.remove(&oldest);
        Ok(())
    }

    /// What all that is heard makes of nodes.
    pub(super) fn nodes(&self, now: Instant) -> BTreeMap<IpAddr, Said> {
        let mut heard: Vec<_> = self.boots.values().collect();
        heard.retain(|it| !self.is_forgotten(it, now));
        heard.sort_by_key(|it| it.at);
        let mut nodes = BTreeMap::new();
        for heard in heard {
            for address in &heard.addresses {
                nodes.insert(*address, self.said(heard, *address, now));
            }
        }
        nodes
    }

    /// Of a node that fell silent without a word, only once others were heard
    /// since: if all are silent, it is this machine that is cut off.
    fn is_forgotten(&self, heard: &Heard, now: Instant) -> bool {
        let mut others = self.boots.values();
        now >= heard.kept_until()
            && (heard.has_left()
                || others
                    .any(|it| it.at >= heard.silent_from() && !shares(&it.addresses, &self.own)))
    }

    fn said(&self, heard: &Heard, address: IpAddr, now: Instant) -> Said {
        let message = &heard.message;
        let (stance, because) = self.stance(heard, address, now);
        let mut said = Said::new(stance, heard.at.into_std(), because);
        if self.key.is_some() {
            said.sighting.name = message.host.clone();
            said.sighting.weight = message.weight.map(|it| it.get().min(HEAVIEST));
        }
        said
    }

    fn stance(&self, heard: &Heard, address: IpAddr, now: Instant) -> (Stance, String) {
        let asked_to_drain = match self.key {
            Some(_) => Stance::Draining,
            None => Stance::Down,
        };
        match heard.message.state {
            State::Leaving => (asked_to_drain, "it says that it leaves".to_owned()),
            _ if now >= heard.silent_from() => (Stance::Down, "it fell silent".to_owned()),
            State::Draining => (asked_to_drain, "it asks for it".to_owned()),
            State::Ready => match self.missing(&heard.message, address) {
                Some(vip) => (Stance::Down, format!("it says that it lacks {vip}")),
                None => (Stance::Ready, "it says so itself".to_owned()),
            },
        }
    }

    /// A virtual address that the node says it has not in place.
    fn missing(&self, message: &Heartbeat, address: IpAddr) -> Option<IpAddr> {
        let in_place = &message.receiving.as_ref()?.in_place;
        if in_place.len() >= MAX_VIRTUAL {
            return None;
        }
        let mut vips = self.vips.iter().map(|vip| vip.address);
        vips.find(|vip| Family::of(*vip) == Family::of(address) && !in_place.contains(vip))
    }

    /// When the passing of time alone next changes [`Self::nodes`].
    pub(super) fn next_change(&self, now: Instant) -> Option<Instant> {
        let boots = self.boots.values();
        let times = boots.flat_map(|it| [it.silent_from(), it.kept_until()]);
        times.filter(|it| *it > now).min()
    }
}

fn shares(one: &[IpAddr], other: &[IpAddr]) -> bool {
    one.iter().any(|it| other.contains(it))
}
