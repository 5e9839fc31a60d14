//! The keys of session tickets, the same in all proxies of a cluster.
//!
//! Every member says which keys it has; what others say is merged into one's own
//! keyring, which makes all of them the same whatever was lost or doubled on the
//! way. The live member whose name sorts first makes the next key, and the others do
//! if it does not, so there is nobody to elect. A key seals once all live members
//! say that they have it. Keys are secrets: they go over the mesh only, which seals
//! whatever it keeps.
//!
//! [`Rotor`] is pure: time, members and keys are passed in. [`keep`] is its shell.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info};

use super::{Fact, Member, Mesh};
use crate::tls::tickets::{KeyName, Keyring, KnownKey, TicketKey, Tickets};

/// The topic.
const TOPIC: &str = "tickets/keys";

/// How long a member that has no keys waits for those of others, for each live
/// member before it.
const SETTLE: Duration = Duration::from_secs(3);

/// How much later than the member before it each one makes a key that is due, at most.
const HESITATION: Duration = Duration::from_secs(60);

/// From one look to the next while keys are missing.
const SHORT_WAIT: Duration = Duration::from_secs(1);

/// How often members say again how old their keys are. A word may have been on its way,
/// or kept by others, for that long.
const REPEAT: Duration = Duration::from_secs(600);

/// The first byte of what members say.
const FORMAT: u8 = 1;

/// Generation, age in seconds, name, secret.
const KEY_SIZE: usize = 8 + 4 + 16 + 32;

/// Most keys in one member's word.
const MOST_KEYS: usize = 64;

/// Keeps `tickets` supplied with the cluster's keys, which change every `period`. Never ends.
pub async fn keep(mesh: Arc<dyn Mesh>, tickets: Arc<Tickets>, period: Duration) {
    let mut members = mesh.members();
    let mut facts = mesh.facts(TOPIC);
    let mut rotor = Rotor::new(Arc::clone(mesh.name()), period);
    let mut in_force = None;
    loop {
        let now = Instant::now();
        let live = live(&members.borrow_and_update());
        let words = words(&facts.borrow_and_update());
        let step = rotor.step(now, &live, &words, &mut TicketKey::random);
        if let Some(body) = step.say {
            mesh.publish(TOPIC, body);
        }
        let now_in_force = Some((step.active, rotor.names()));
        if in_force != now_in_force {
            tickets.install(&rotor.keyring, step.active);
            debug!(
                keys = rotor.names().len(),
                "Session tickets have other keys"
            );
            in_force = now_in_force;
        }
        tokio::select! {
            Ok(()) = members.changed() => {}
            Ok(()) = facts.changed() => {}
            () = sleep_until(step.wake) => {}
        }
    }
}

fn live(members: &[Member]) -> Vec<Arc<str>> {
    let live = members.iter().filter(|member| member.is_live);
    live.map(|member| Arc::clone(&member.name)).collect()
}

/// What can be understood of what members say. They know the secret, so what can't be
/// is another version's.
fn words(facts: &[Fact]) -> Vec<Word> {
    let understood = facts.iter().filter_map(|fact| {
        let Some(keys) = decode(&fact.body) else {
            debug!(member = %fact.member, "Another proxy's keys of session tickets make no sense");
            return None;
        };
        Some(Word {
            member: Arc::clone(&fact.member),
            at: fact.at,
            keys,
        })
    });
    understood.collect()
}

/// What a member said of its keys.
#[derive(Clone, Debug)]
struct Word {
    member: Arc<str>,
    /// When, by this member's clock.
    at: Instant,
    keys: Vec<KnownKey>,
}

/// One member's part in keeping the keys.
#[derive(Debug)]
struct Rotor {
    name: Arc<str>,
    keyring: Keyring,
    /// How much later than the member before it this one makes a key.
    hesitation: Duration,
    /// Since when keys are missing.
    short_since: Option<Instant>,
    /// What this member last said.
    said: Option<Said>,
}

/// What was said, when, and who was there.
#[derive(Debug)]
struct Said {
    names: Vec<KeyName>,
    at: Instant,
    live: Vec<Arc<str>>,
}

/// What follows from one look at the cluster.
#[derive(Debug)]
struct Step {
    /// To be said to the others.
    say: Option<Bytes>,
    /// The key to seal with.
    active: Option<KeyName>,
    /// When to look again if nothing happens.
    wake: Instant,
}

impl Rotor {
    fn new(name: Arc<str>, period: Duration) -> Self {
        Self {
            name,
            keyring: Keyring::new(period),
            hesitation: HESITATION.min(period / 12),
            short_since: None,
            said: None,
        }
    }

    fn step(
        &mut self,
        now: Instant,
        live: &[Arc<str>],
        words: &[Word],
        make: &mut dyn FnMut() -> Option<TicketKey>,
    ) -> Step {
        for word in words {
            self.keyring.merge(&word.keys, word.at, now);
        }
        self.keyring.expire(now);
        let before_me = live.iter().filter(|name| **name < self.name).count();
        let before_me = u32::try_from(before_me).unwrap_or(u32::MAX);
        if self.may_make(before_me, now) {
            self.fill(now, make);
        }
        let active = self.keyring.choose(now, |key| {
            let mut words = live
                .iter()
                .map(|name| words.iter().find(|word| word.member == *name));
            words.all(|word| word.is_some_and(|word| word.has(key)))
        });
        Step {
            say: self.say(now, live),
            active,
            wake: self.wake(now),
        }
    }

    /// Whether a key is due and it is this member's turn to make it.
    fn may_make(&mut self, before_me: u32, now: Instant) -> bool {
        if let Some(due) = self.keyring.due_at() {
            self.short_since = None;
            return now >= due + self.hesitation.saturating_mul(before_me);
        }
        let since = *self.short_since.get_or_insert(now);
        now >= since + SETTLE.saturating_mul(before_me.saturating_add(1))
    }

    fn fill(&mut self, now: Instant, make: &mut dyn FnMut() -> Option<TicketKey>) {
        while self.keyring.is_due(now) {
            let Some(key) = make() else {
                // Without random bytes no handshake works either; it is tried again.
                error!("No random bytes for the key of session tickets");
                return;
            };
            self.keyring.add_next(key, now);
            info!("Made the next key of the cluster's session tickets");
        }
        self.short_since = None;
    }

    /// Its keys, if they are not those that it said last, or if that was a while ago or
    /// somebody came since, who would take their ages of then for those of now. That
    /// there is none is also a word.
    fn say(&mut self, now: Instant, live: &[Arc<str>]) -> Option<Bytes> {
        let names = self.names();
        let is_said = self.said.as_ref().is_some_and(|said| {
            let all_heard = live.iter().all(|name| said.live.contains(name));
            said.names == names && all_heard && now < said.at + REPEAT
        });
        if is_said {
            // Who leaves and comes back is new.
            if let Some(said) = &mut self.said {
                said.live.retain(|name| live.contains(name));
            }
            return None;
        }
        self.said = Some(Said {
            names,
            at: now,
            live: live.to_vec(),
        });
        Some(encode(&self.keyring.known(now)))
    }

    fn wake(&self, now: Instant) -> Instant {
        let again = self.said.as_ref().map_or(now, |said| said.at) + REPEAT;
        let wake = self.keyring.next_change(now).min(again);
        match self.short_since {
            Some(_) => wake.min(now + SHORT_WAIT),
            None => wake,
        }
    }

    fn names(&self) -> Vec<KeyName> {
        self.keyring.keys().map(|key| key.name).collect()
    }
}

impl Word {
    fn has(&self, name: &KeyName) -> bool {
        self.keys.iter().any(|known| known.key.name == *name)
    }
}

fn encode(keys: &[KnownKey]) -> Bytes {
    let mut body = Vec::with_capacity(1 + keys.len() * KEY_SIZE);
    body.put_u8(FORMAT);
    for known in keys {
        body.put_u64(known.generation);
        body.put_u32(u32::try_from(known.age.as_secs()).unwrap_or(u32::MAX));
        body.put_slice(&known.key.name);
        body.put_slice(&known.key.secret);
    }
    body.into()
}

fn decode(body: &[u8]) -> Option<Vec<KnownKey>> {
    let (&format, keys) = body.split_first()?;
    let (keys, rest) = keys.as_chunks::<KEY_SIZE>();
    if format != FORMAT || !rest.is_empty() || keys.len() > MOST_KEYS {
        return None;
    }
    keys.iter().map(|key| decode_key(key)).collect()
}

fn decode_key(bytes: &[u8]) -> Option<KnownKey> {
    let (generation, rest) = bytes.split_first_chunk::<8>()?;
    let (age, rest) = rest.split_first_chunk::<4>()?;
    let (name, rest) = rest.split_first_chunk::<16>()?;
    let (secret, _) = rest.split_first_chunk::<32>()?;
    Some(KnownKey {
        generation: u64::from_be_bytes(*generation),
        age: Duration::from_secs(u32::from_be_bytes(*age).into()),
        key: TicketKey {
            name: *name,
            secret: *secret,
        },
    })
}

#[cfg(test)]
mod tests;
