//! What every member said last about each topic, this one included.
//!
//! Pure: no socket, the time is passed in. Owns the versions (a word is replaced by
//! higher ones only), the lives of members, and the bounds on memory.
//!
//! A member's *life* is the lowest version of what it says since it started. Words of
//! an earlier life are kept here as its last ones but not handed on, and a version
//! below the life that is known is refused: somebody repeats what was said before.
//! The lowest version of a new life comes from the clock; where the clock is wrong,
//! the others know better and [`Ledger::outlive`] starts the life again above that.
//!
//! What a member that is gone said last stays until somebody alive speaks about the
//! same topic, and then for [`Bounds::forget`]: one that is cut off keeps all it knows.

mod digest;
mod kept;

pub(super) use self::kept::Kept;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::wire::{HIGHEST_VERSION, LARGEST_BODY, Word};
use crate::cluster::Fact;

/// How far a life that has to start again leaves the last one behind.
const STRIDE: u64 = 1 << 20;

/// Words that are remembered for having had no room.
const SPURNED: usize = 1024;

/// What is kept at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// One body.
    pub(super) body: usize,
    /// All bodies together.
    pub(super) total: usize,
    /// Topics of one member.
    pub(super) topics: usize,
    /// Members, this one included.
    pub(super) members: usize,
    /// How long a member that is gone is remembered when it is not needed any more.
    pub(super) forget: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            body: LARGEST_BODY,
            total: 48 << 20,
            topics: 64,
            members: 256,
            forget: Duration::from_secs(3600),
        }
    }
}

/// Why a word is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unheard {
    /// It is this member's own, which knows better.
    Own,
    /// A newer one is known, or a newer life.
    Old,
    /// It, or what is known already, is too much.
    TooMuch,
}

/// What a word changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It is new.
    New,
    /// It was known.
    Known,
}

#[derive(Clone, Debug)]
struct Said {
    version: u64,
    body: Bytes,
    /// When it arrived, or was last known to be what the member says.
    at: Instant,
}

#[derive(Clone, Debug)]
struct Known {
    life: u64,
    words: BTreeMap<Arc<str>, Said>,
    /// When it was last heard of.
    at: Instant,
    has_left: bool,
}

/// A member that is known, as [`Ledger::members`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Acquaintance {
    pub(super) name: Arc<str>,
    pub(super) is_live: bool,
    pub(super) at: Instant,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Ledger {
    me: Arc<str>,
    next: u64,
    known: BTreeMap<Arc<str>, Known>,
    live: BTreeSet<Arc<str>>,
    /// When those were heard of last whose connection has just ended.
    heard: BTreeMap<Arc<str>, Instant>,
    total: usize,
    /// Versions that there was no room for, not to be asked for again and again.
    spurned: BTreeMap<(Arc<str>, Arc<str>), u64>,
    bounds: Bounds,
}

impl Ledger {
    /// A ledger of one that starts a life.
    pub(super) fn new(me: Arc<str>, life: u64, bounds: Bounds, now: Instant) -> Self {
        let mut ledger = Self {
            me: Arc::clone(&me),
            next: life.clamp(1, HIGHEST_VERSION),
            known: BTreeMap::new(),
            live: BTreeSet::new(),
            heard: BTreeMap::new(),
            total: 0,
            spurned: BTreeMap::new(),
            bounds,
        };
        let life = ledger.next;
        ledger.known.insert(me, Known::new(life, now));
        ledger
    }

    /// This member's present life.
    pub(super) fn life(&self) -> u64 {
        self.known.get(&self.me).map_or(0, |known| known.life)
    }

    /// The highest version that is known of a member, of whatever life.
    pub(super) fn floor(&self, member: &str) -> u64 {
        let highest = |known: &Known| {
            let versions = known.words.values().map(|said| said.version);
            versions.fold(known.life, u64::max)
        };
        self.known.get(member).map_or(0, highest)
    }

    /// This member says something; the version of it.
    pub(super) fn say(&mut self, topic: &str, body: Bytes, now: Instant) -> Result<u64, Unheard> {
        let version = self.next;
        let me = Arc::clone(&self.me);
        self.put(&me, &Arc::from(topic), version, body, now)?;
        self.next = version.saturating_add(1).min(HIGHEST_VERSION);
        Ok(version)
    }

    /// Somebody tells a word of a member.
    pub(super) fn hear(&mut self, word: &Word, now: Instant) -> Result<News, Unheard> {
        if word.member == self.me {
            return Err(Unheard::Own);
        }
        if let Some(known) = self.known.get(&word.member) {
            let version = known.words.get(&word.topic).map_or(0, |said| said.version);
            if word.version == version && version >= known.life {
                return Ok(News::Known);
            }
            if word.version <= version || word.version < known.life {
                return Err(Unheard::Old);
            }
        }
        // A copy: the frame that it came in may be part of something larger.
        let body = Bytes::copy_from_slice(&word.body);
        let at = match self.known.get(&word.member) {
            Some(known) if !self.live.contains(&word.member) => known.at,
            Some(_) | None => now,
        };
        let put = self.put(&word.member, &word.topic, word.version, body, at);
        if put.is_err() && self.spurned.len() < SPURNED {
            let key = (Arc::clone(&word.member), Arc::clone(&word.topic));
            self.spurned.insert(key, word.version);
        }
        put?;
        Ok(News::New)
    }

    fn put(
        &mut self,
        member: &Arc<str>,
        topic: &Arc<str>,
        version: u64,
        body: Bytes,
        now: Instant,
    ) -> Result<(), Unheard> {
        let known = self.known.get(member);
        let replaced = known.and_then(|known| known.words.get(topic));
        let before = replaced.map_or(0, |said| said.body.len());
        let topics = known.map_or(0, |known| known.words.len());
        let is_one_more = replaced.is_none() && topics >= self.bounds.topics;
        if body.len() > self.bounds.body || is_one_more {
            return Err(Unheard::TooMuch);
        }
        let total = (self.total - before).saturating_add(body.len());
        self.make_room(member, total)?;
        self.total = (self.total - before).saturating_add(body.len());
        let entry = self.known.entry(Arc::clone(member));
        let known = entry.or_insert_with(|| Known::new(0, now));
        let said = Said {
            version,
            body,
            at: now,
        };
        known.words.insert(Arc::clone(topic), said);
        known.at = known.at.max(now);
        Ok(())
    }

    /// Forgets members that are gone, the longest gone first, until there is room
    /// for `member` and `total` bytes.
    fn make_room(&mut self, member: &Arc<str>, mut total: usize) -> Result<(), Unheard> {
        loop {
            let is_known = self.known.contains_key(member);
            let is_full = !is_known && self.known.len() >= self.bounds.members;
            if !is_full && total <= self.bounds.total {
                return Ok(());
            }
            let gone = self.known.iter().filter(|(name, _)| {
                **name != self.me && *name != member && !self.live.contains(*name)
            });
            let oldest = gone.min_by_key(|(_, known)| known.at);
            let Some(name) = oldest.map(|(name, _)| Arc::clone(name)) else {
                return Err(Unheard::TooMuch);
            };
            total = total.saturating_sub(self.remove(&name));
        }
    }

    /// Forgets a member; how many bytes that frees.
    fn remove(&mut self, name: &str) -> usize {
        let known = self.known.remove(name);
        let size = known.map_or(0, |known| known.size());
        self.total = self.total.saturating_sub(size);
        size
    }

    /// A member, or somebody else, tells of its present life. Returns whether that
    /// is a new one.
    pub(super) fn meet(&mut self, member: &Arc<str>, life: u64, now: Instant) -> bool {
        if *member == self.me || self.make_room(member, self.total).is_err() {
            return false;
        }
        let entry = self.known.entry(Arc::clone(member));
        let known = entry.or_insert_with(|| Known::new(0, now));
        let is_new = life > known.life;
        if is_new {
            known.life = life;
            known.has_left = false;
            for said in known.words.values_mut().filter(|said| said.version < life) {
                said.at = now;
            }
        }
        is_new
    }

    /// Somebody knows `floor` of an earlier life of this member. Starts the present
    /// one again above it if need be, and says everything again; whether it did.
    pub(super) fn outlive(&mut self, floor: u64, now: Instant) -> bool {
        if floor < self.next {
            return false;
        }
        let life = floor.saturating_add(STRIDE).min(HIGHEST_VERSION);
        let mut next = life;
        if let Some(own) = self.known.get_mut(&self.me) {
            own.life = life;
            for said in own.words.values_mut() {
                said.version = next;
                said.at = now;
                next = next.saturating_add(1).min(HIGHEST_VERSION);
            }
        }
        self.next = next;
        true
    }

    /// Who can be reached, and when the others were heard of last, by name.
    pub(super) fn set_live(&mut self, live: BTreeSet<Arc<str>>, now: Instant) {
        for name in live.iter().chain(&self.live) {
            if let Some(known) = self.known.get_mut(name) {
                known.at = now;
                known.has_left &= !live.contains(name);
            }
        }
        for name in self.live.difference(&live) {
            if let Some(known) = self.known.get_mut(name) {
                let (life, at) = (known.life, self.heard.get(name).copied().unwrap_or(now));
                known.at = at;
                for said in known.words.values_mut().filter(|said| said.version >= life) {
                    said.at = said.at.max(at);
                }
            }
        }
        self.heard.clear();
        self.live = live;
    }

    /// When a member was heard of last whose connection has ended: before
    /// [`Ledger::set_live`], which goes by it if nobody else can reach the member.
    pub(super) fn lost(&mut self, member: &Arc<str>, heard_at: Instant) {
        self.heard.insert(Arc::clone(member), heard_at);
    }

    /// Who can be reached.
    pub(super) fn live(&self) -> &BTreeSet<Arc<str>> {
        &self.live
    }

    /// A member goes on purpose; it is no member any more, its words stay.
    pub(super) fn leave(&mut self, member: &str) {
        if let Some(known) = self.known.get_mut(member) {
            known.has_left = true;
        }
    }

    /// Whether a member is known and has not left on purpose.
    pub(super) fn is_member(&self, name: &str) -> bool {
        self.known.get(name).is_some_and(|known| !known.has_left)
    }

    /// All members but this one that have not left.
    pub(super) fn members(&self) -> Vec<Acquaintance> {
        let others = self.known.iter();
        let others = others.filter(|(name, known)| **name != self.me && !known.has_left);
        others
            .map(|(name, known)| Acquaintance {
                name: Arc::clone(name),
                is_live: self.live.contains(name),
                at: known.at,
            })
            .collect()
    }

    /// What the others say about a topic.
    pub(super) fn facts(&self, topic: &str) -> Vec<Fact> {
        let others = self.known.iter().filter(|(name, _)| **name != self.me);
        let facts = others.filter_map(|(name, known)| {
            let said = known.words.get(topic)?;
            let is_live = self.live.contains(name) && said.version >= known.life;
            (!said.body.is_empty()).then(|| Fact {
                member: Arc::clone(name),
                version: said.version,
                body: said.body.clone(),
                at: said.at,
                is_live,
            })
        });
        facts.collect()
    }

    /// A member's last word on a topic, to be told to somebody.
    pub(super) fn word(&self, member: &Arc<str>, topic: &Arc<str>) -> Option<Word> {
        let known = self.known.get(member)?;
        let said = known.words.get(topic)?;
        (said.version >= known.life).then(|| Word {
            member: Arc::clone(member),
            topic: Arc::clone(topic),
            version: said.version,
            body: said.body.clone(),
        })
    }

    /// The topics that this member has said something about.
    pub(super) fn own_topics(&self) -> Vec<Arc<str>> {
        let own = self.known.get(&self.me);
        own.map_or_else(Vec::new, |own| own.words.keys().cloned().collect())
    }

    /// How many words are known, and their bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        let words = self.known.values().map(|known| known.words.len()).sum();
        (words, self.total)
    }
}

impl Known {
    fn new(life: u64, now: Instant) -> Self {
        Self {
            life,
            words: BTreeMap::new(),
            at: now,
            has_left: false,
        }
    }

    fn size(&self) -> usize {
        self.words.values().map(|said| said.body.len()).sum()
    }
}

#[cfg(test)]
mod tests;
