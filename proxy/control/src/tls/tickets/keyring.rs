//! Which keys of session tickets there are, and which one seals.
//!
//! A key has three turns, as in HAProxy's ring of three: in the first it is only
//! handed around, in the second it seals, in the third it still opens what it sealed.
//! So nobody meets a ticket whose key it has not had for a whole turn. Keys of one
//! generation can come from several makers that did not know of each other; then all
//! of them open, and the one that sorts last seals. Keyrings that hear of each other's
//! keys end up the same whatever the order.
//!
//! Pure: the time and new keys are passed in. The alone proxy and the cluster's shell
//! drive it.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::{KeyName, TicketKey};

/// How long a key's turn is, where nothing else is wanted. HAProxy's manual rotates about
/// twice a day; Go rotates daily and opens for a week. Keys are gone here after a day and
/// a half.
pub const PERIOD: Duration = Duration::from_secs(12 * 3600);

/// The turns that a key has.
const TURNS: u32 = 3;

/// How long others may take to learn of a key before it seals without them.
const PATIENCE: Duration = Duration::from_secs(5);

/// Most keys. In the steady state there are three; rings that grew apart add theirs.
const MOST: usize = 16;

/// Most names of keys that are remembered to be over.
const MOST_OVER: usize = 64;

/// The highest generation that is believed.
const LAST_GENERATION: u64 = 1 << 48;

/// A key and what is known of it, as keyrings tell each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownKey {
    /// Counts keys; the newest one is only handed around.
    pub generation: u64,
    /// How long ago it was made.
    pub age: Duration,
    /// The key.
    pub key: TicketKey,
}

/// All keys that are not over.
#[derive(Debug)]
pub struct Keyring {
    period: Duration,
    /// By generation and name.
    keys: Vec<Entry>,
    over: VecDeque<KeyName>,
}

#[derive(Debug)]
struct Entry {
    generation: u64,
    key: TicketKey,
    /// How old it was at `seen`.
    age: Duration,
    /// When it came here first.
    seen: Instant,
}

impl Entry {
    fn rank(&self) -> (u64, KeyName) {
        (self.generation, self.key.name)
    }

    fn age(&self, now: Instant) -> Duration {
        self.age + now.saturating_duration_since(self.seen)
    }

    /// When it is `age` old.
    fn at(&self, age: Duration) -> Instant {
        self.seen + age.saturating_sub(self.age)
    }
}

impl Keyring {
    /// No keys yet; each will have turns of `period`.
    pub fn new(period: Duration) -> Self {
        Self {
            period,
            keys: Vec::new(),
            over: VecDeque::new(),
        }
    }

    /// For how long a ticket opens at least, should it have been sealed at the very end of
    /// its key's turn. A little less than the turn after that: keys may be handed on late.
    pub fn lifetime(&self) -> Duration {
        self.period - self.period / 12
    }

    /// The keys, the newest ones last.
    pub fn keys(&self) -> impl Iterator<Item = &TicketKey> {
        self.keys.iter().map(|entry| &entry.key)
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// A key's generation and age.
    pub fn find(&self, name: &KeyName, now: Instant) -> Option<(u64, Duration)> {
        let mut keys = self.keys.iter();
        let found = keys.find(|entry| entry.key.name == *name)?;
        Some((found.generation, found.age(now)))
    }

    /// All keys as others are told of them.
    pub fn known(&self, now: Instant) -> Vec<KnownKey> {
        let known = |entry: &Entry| KnownKey {
            generation: entry.generation,
            age: entry.age(now),
            key: entry.key.clone(),
        };
        self.keys.iter().map(known).collect()
    }

    /// Whether a key must be made: there are fewer than the one that seals and the one
    /// after it, or the newest has had its first turn.
    pub fn is_due(&self, now: Instant) -> bool {
        match self.keys.as_slice() {
            [] | [_] => true,
            [.., last] => self.first_turn_ends(last) <= now,
        }
    }

    /// When the next key must be made; nothing if that is long overdue.
    pub fn due_at(&self) -> Option<Instant> {
        match self.keys.as_slice() {
            [] | [_] => None,
            [.., last] => Some(self.first_turn_ends(last)),
        }
    }

    /// When the newest generation has had its first turn. Of several makers' keys the
    /// oldest counts, lest old ones be kept in use.
    fn first_turn_ends(&self, last: &Entry) -> Instant {
        let newest = self.keys.iter().rev();
        let newest = newest.take_while(|entry| entry.generation == last.generation);
        let ends = newest.map(|entry| entry.at(self.period)).min();
        ends.unwrap_or(last.seen)
    }

    /// Puts a new key of a new generation in. Only whoever [must](Self::is_due) does so.
    /// The very first one seals at once, and counts as if it had had its first turn.
    pub fn add_next(&mut self, key: TicketKey, now: Instant) {
        let newest = self.newest_generation();
        let age = match self.keys.is_empty() {
            true => self.period,
            false => Duration::ZERO,
        };
        self.keys.push(Entry {
            generation: newest.saturating_add(1).min(LAST_GENERATION),
            key,
            age,
            seen: now,
        });
        self.trim();
    }

    /// Takes in what was said at `at`. Of two words about a key's age the higher one holds.
    pub fn merge(&mut self, said: &[KnownKey], at: Instant, now: Instant) {
        for KnownKey {
            generation,
            age,
            key,
        } in said
        {
            let age = age.saturating_add(now.saturating_duration_since(at));
            let is_over = age >= self.end() || self.over.contains(&key.name);
            if is_over || !(1..=LAST_GENERATION).contains(generation) {
                continue;
            }
            match self
                .keys
                .iter_mut()
                .find(|known| known.key.name == key.name)
            {
                Some(known) => {
                    let missing = age.saturating_sub(known.age(now));
                    known.age += missing;
                }
                None => self.keys.push(Entry {
                    generation: *generation,
                    key: key.clone(),
                    age,
                    seen: now,
                }),
            }
        }
        self.trim();
    }

    /// Forgets the keys that have had all their turns.
    pub fn expire(&mut self, now: Instant) {
        let end = self.end();
        let over = &mut self.over;
        self.keys.retain(|entry| {
            let stays = entry.age(now) < end;
            if !stays {
                over.push_back(entry.key.name);
            }
            stays
        });
        while self.over.len() > MOST_OVER {
            self.over.pop_front();
        }
    }

    /// The key to seal with: the last one that has had, or has, successors, and that all
    /// others know or have had the time to hear of.
    pub fn choose(
        &self,
        now: Instant,
        is_known_to_all: impl Fn(&KeyName) -> bool,
    ) -> Option<KeyName> {
        let newest = self.newest_generation();
        let older = self.keys.iter().rev();
        let mut older = older.filter(|entry| entry.generation < newest);
        let chosen =
            older.find(|entry| now >= entry.seen + PATIENCE || is_known_to_all(&entry.key.name))?;
        Some(chosen.key.name)
    }

    /// When something changes by itself: a key is due or over, or others have had the
    /// time to hear of one. Always later than `now`.
    pub fn next_change(&self, now: Instant) -> Instant {
        let ends = self.keys.iter().map(|entry| entry.at(self.end()));
        let heard = self.keys.iter().map(|entry| entry.seen + PATIENCE);
        let heard = heard.filter(|at| *at > now);
        let later = now + PATIENCE;
        let next = ends.chain(heard).chain([self.due_at().unwrap_or(later)]);
        // What is past was not done for want of random bytes: not at once again.
        let next = next.map(|at| if at > now { at } else { later }).min();
        next.unwrap_or(later)
    }

    fn newest_generation(&self) -> u64 {
        self.keys.last().map_or(0, |last| last.generation)
    }

    fn end(&self) -> Duration {
        self.period * TURNS
    }

    /// Restores the order and the bound.
    fn trim(&mut self) {
        self.keys.sort_by_key(Entry::rank);
        let excess = self.keys.len().saturating_sub(MOST);
        self.keys.drain(..excess);
    }
}
