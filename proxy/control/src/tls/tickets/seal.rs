//! The data plane's side: sealing and opening tickets.
//!
//! A ticket is the key's name, a random nonce, and the sealed session
//! (ChaCha20-Poly1305, which every machine of a cluster does well enough). The
//! key's name and the group's digest are authenticated with it (compare RFC 5077
//! section 4). Worker threads are here; they only read.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use rustls::server::ProducesTickets;
use tokio::time::Instant;

use super::{KeyName, Keyring, TicketKey};

/// What stands before the sealed session.
const HEAD: usize = size_of::<KeyName>() + NONCE_LEN;

/// The longest ticket that is looked at. A session without certificates of clients
/// is two names of 255 bytes at most and some 100 bytes more.
const MAX_TICKET: usize = 1024;

/// The keys of all session tickets of a process.
#[derive(Debug, Default)]
pub struct Tickets(ArcSwap<Ring>);

impl Tickets {
    /// Puts keys in force: tickets of all of them are opened, new ones are sealed with
    /// the one called `active`. Without one, clients get no tickets.
    pub fn install(&self, keyring: &Keyring, active: Option<KeyName>) {
        let keys: Vec<Usable> = keyring.keys().filter_map(Usable::new).collect();
        let now = Instant::now();
        let known = active.and_then(|name| keyring.find(&name, now));
        let sealing = known.map(|(generation, age)| (generation, age, now));
        let active = keys.iter().position(|key| Some(key.name) == active);
        let lifetime = keyring.lifetime();
        self.0.store(Arc::new(Ring {
            keys,
            active,
            lifetime,
            sealing,
        }));
    }

    /// What can be told of the keys in force.
    pub fn keys(&self, now: Instant) -> KeysInForce {
        let ring = self.0.load();
        KeysInForce {
            count: ring.keys.len(),
            sealing: ring
                .sealing
                .map(|(generation, age, at)| (generation, age + now.saturating_duration_since(at))),
        }
    }

    /// The tickets of a group of hosts, which open in no other.
    pub fn of_group(self: &Arc<Self>, group: &str) -> Arc<dyn ProducesTickets> {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, group.as_bytes()).as_ref());
        Arc::new(TicketsOfGroup {
            tickets: Arc::clone(self),
            group: hash,
        })
    }
}

/// The keys in force, without what is secret of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeysInForce {
    /// How many there are: those that only open tickets included.
    pub count: usize,
    /// Generation and age of the one that seals.
    pub sealing: Option<(u64, Duration)>,
}

/// The keys at one time.
#[derive(Default)]
struct Ring {
    keys: Vec<Usable>,
    /// The key that seals.
    active: Option<usize>,
    lifetime: Duration,
    /// Its generation, and its age at a time.
    sealing: Option<(u64, Duration, Instant)>,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

struct Usable {
    name: KeyName,
    key: LessSafeKey,
}

impl Usable {
    fn new(key: &TicketKey) -> Option<Self> {
        let unbound = UnboundKey::new(&CHACHA20_POLY1305, &key.secret).ok()?;
        Some(Self {
            name: key.name,
            key: LessSafeKey::new(unbound),
        })
    }
}

/// One group's view of [`Tickets`].
pub struct TicketsOfGroup {
    tickets: Arc<Tickets>,
    /// The digest of the group's name.
    group: [u8; 32],
}

impl TicketsOfGroup {
    /// What is authenticated but not sealed.
    fn bound_to(&self, name: &KeyName) -> Aad<[u8; 48]> {
        let mut bound = [0; 48];
        let (front, back) = bound.split_at_mut(name.len());
        front.copy_from_slice(name);
        back.copy_from_slice(&self.group);
        Aad::from(bound)
    }
}

impl ProducesTickets for TicketsOfGroup {
    fn enabled(&self) -> bool {
        true
    }

    /// What every ticket is good for at least: a key opens for one turn after the one
    /// in which it seals.
    fn lifetime(&self) -> u32 {
        u32::try_from(self.tickets.0.load().lifetime.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let ring = self.tickets.0.load();
        let Usable { name, key } = ring.keys.get(ring.active?)?;
        let length = HEAD + plain.len() + CHACHA20_POLY1305.tag_len();
        if length > MAX_TICKET {
            return None;
        }
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut ticket = Vec::with_capacity(length);
        ticket.extend_from_slice(name);
        ticket.extend_from_slice(&nonce);
        ticket.extend_from_slice(plain);
        let sealed = ticket.get_mut(HEAD..)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = key
            .seal_in_place_separate_tag(nonce, self.bound_to(name), sealed)
            .ok()?;
        ticket.extend_from_slice(tag.as_ref());
        Some(ticket)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > MAX_TICKET {
            return None;
        }
        let (name, rest) = ticket.split_first_chunk::<16>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let ring = self.tickets.0.load();
        // The names are no secret: they stand in every ticket.
        let found = ring.keys.iter().find(|key| key.name == *name)?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let mut plain = sealed.to_vec();
        let bound = self.bound_to(name);
        let length = found
            .key
            .open_in_place(nonce, bound, &mut plain)
            .ok()?
            .len();
        plain.truncate(length);
        Some(plain)
    }
}

impl fmt::Debug for TicketsOfGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketsOfGroup").finish_non_exhaustive()
    }
}
