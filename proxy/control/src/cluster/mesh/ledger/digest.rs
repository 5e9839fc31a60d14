//! What members tell each other of what they know, and what follows from it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Ledger;
use crate::cluster::mesh::wire::Summary;

impl Ledger {
    /// Somebody tells what it knows of a member. Returns whether that is a new life.
    pub(in super::super) fn note(&mut self, summary: &Summary, now: Instant) -> bool {
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

    /// What is known of everybody, for somebody to find out what it lacks.
    pub(in super::super) fn digest(
        &self,
        linked: impl Fn(&str) -> bool,
        now: Instant,
    ) -> Vec<Summary> {
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
    pub(in super::super) fn lacking(&self, summary: &Summary) -> Vec<(Arc<str>, Arc<str>)> {
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
    pub(super) fn spoken(&self) -> BTreeSet<Arc<str>> {
        let mut spoken: BTreeSet<Arc<str>> = BTreeSet::new();
        for known in self.live.iter().filter_map(|name| self.known.get(name)) {
            let words = known.words.iter();
            let present = words.filter(|(_, said)| said.version >= known.life);
            spoken.extend(present.map(|(topic, _)| Arc::clone(topic)));
        }
        spoken
    }
}
