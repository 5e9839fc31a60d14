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

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::wire::{HIGHEST_VERSION, LARGEST_BODY, Summary, Word};
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

    /// Somebody tells what it knows of a member. Returns whether that is a new life.
    pub(super) fn note(&mut self, summary: &Summary, now: Instant) -> bool {
        let name = &summary.member;
        let at = now.checked_sub(summary.silence).unwrap_or(now);
        let is_known = self.known.contains_key(name);
        if !is_known && summary.silence > self.bounds.forget && self.lacking(summary).is_empty() {
            return false;
        }
        let is_new = self.meet(name, summary.life, at);
        let is_live = self.live.contains(name);
        let Some(known) = self.known.get_mut(name).filter(|_| *name != self.me) else {
            return is_new;
        };
        if !is_known {
            known.has_left = summary.has_left;
        }
        if !is_live && at > known.at {
            known.at = at;
            for (topic, version) in &summary.words {
                let said = known.words.get_mut(topic);
                if let Some(said) = said.filter(|said| said.version == *version) {
                    said.at = said.at.max(at);
                }
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

    /// Whether a member has left on purpose.
    pub(super) fn has_left(&self, member: &str) -> bool {
        self.known.get(member).is_some_and(|known| known.has_left)
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

    /// What is known of everybody, for somebody to find out what it lacks.
    pub(super) fn digest(&self, linked: impl Fn(&str) -> bool, now: Instant) -> Vec<Summary> {
        let all = self.known.iter().map(|(name, known)| {
            let words = known.words.iter();
            let present = words.filter(|(_, said)| said.version >= known.life);
            Summary {
                member: Arc::clone(name),
                life: known.life,
                is_linked: *name == self.me || linked(name),
                has_left: known.has_left,
                silence: match *name == self.me || self.live.contains(name) {
                    true => Duration::ZERO,
                    false => now.saturating_duration_since(known.at),
                },
                words: present
                    .map(|(topic, said)| (Arc::clone(topic), said.version))
                    .collect(),
            }
        });
        all.collect()
    }

    /// The words in a member's summary that are newer than what is known here.
    pub(super) fn lacking(&self, summary: &Summary) -> Vec<(Arc<str>, Arc<str>)> {
        if summary.member == self.me {
            return Vec::new();
        }
        let known = self.known.get(&summary.member);
        let version = |topic: &Arc<str>| {
            let said = known.and_then(|known| known.words.get(topic));
            said.map_or(0, |said| said.version)
        };
        let life = known.map_or(0, |known| known.life);
        // What would be forgotten is not asked for.
        let unneeded = match summary.silence > self.bounds.forget {
            true => self.spoken(),
            false => BTreeSet::new(),
        };
        let words = summary.words.iter();
        words
            .filter(|(topic, theirs)| *theirs >= life && *theirs > version(topic))
            .filter(|(topic, _)| !unneeded.contains(topic))
            .map(|(topic, theirs)| ((Arc::clone(&summary.member), Arc::clone(topic)), theirs))
            .filter(|(key, theirs)| self.spurned.get(key).is_none_or(|spurned| spurned < theirs))
            .map(|(key, _)| key)
            .collect()
    }

    /// Topics that somebody alive speaks about.
    fn spoken(&self) -> BTreeSet<Arc<str>> {
        let mut spoken: BTreeSet<Arc<str>> = BTreeSet::new();
        for known in self.live.iter().filter_map(|name| self.known.get(name)) {
            let words = known.words.iter();
            let present = words.filter(|(_, said)| said.version >= known.life);
            spoken.extend(present.map(|(topic, _)| Arc::clone(topic)));
        }
        spoken
    }

    /// Forgets what is not needed any more: members long gone, and words of earlier
    /// lives, when somebody alive speaks about the same topics. Whether it did.
    pub(super) fn forget(&mut self, now: Instant) -> bool {
        self.spurned.clear();
        let spoken = self.spoken();
        let (live, me, patience) = (&self.live, &self.me, self.bounds.forget);
        let is_over = |at: Instant| now.saturating_duration_since(at) > patience;
        let before = (self.known.len(), self.total);
        self.known.retain(|name, known| {
            let is_live = live.contains(name) || name == me;
            let life = known.life;
            known.words.retain(|topic, said| {
                let is_present = is_live && said.version >= life;
                is_present || !is_over(said.at) || !spoken.contains(topic)
            });
            is_live || !known.words.is_empty() || !is_over(known.at) || live.is_empty()
        });
        self.total = self.known.values().map(Known::size).sum();
        before != (self.known.len(), self.total)
    }

    /// All that is known of the others: name, life, and their words with the time.
    pub(super) fn kept(&self) -> Vec<Kept> {
        let others = self.known.iter().filter(|(name, _)| **name != self.me);
        others
            .map(|(name, known)| Kept {
                name: Arc::clone(name),
                life: known.life,
                has_left: known.has_left,
                at: known.at,
                words: known
                    .words
                    .iter()
                    .map(|(topic, said)| {
                        let at = match self.live.contains(name) && said.version >= known.life {
                            true => known.at.max(said.at),
                            false => said.at,
                        };
                        (Arc::clone(topic), said.version, at, said.body.clone())
                    })
                    .collect(),
            })
            .collect()
    }

    /// Takes what was kept before the start.
    pub(super) fn restore(&mut self, kept: Kept) {
        if kept.name == self.me || self.known.contains_key(&kept.name) {
            return;
        }
        for (topic, version, at, body) in kept.words {
            let _too_much = self.put(&kept.name, &topic, version, body, at);
        }
        if self.make_room(&kept.name, self.total).is_err() {
            return;
        }
        let entry = self.known.entry(kept.name);
        let known = entry.or_insert_with(|| Known::new(0, kept.at));
        known.life = kept.life;
        known.has_left = kept.has_left;
        known.at = kept.at;
    }

    /// How many words are known, and their bytes.
    pub(super) fn size(&self) -> (usize, usize) {
        let words = self.known.values().map(|known| known.words.len()).sum();
        (words, self.total)
    }
}

/// What is kept of one member over a restart.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Kept {
    pub(super) name: Arc<str>,
    pub(super) life: u64,
    pub(super) has_left: bool,
    pub(super) at: Instant,
    /// Topic, version, when it was what the member says, body.
    pub(super) words: Vec<(Arc<str>, u64, Instant, Bytes)>,
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
