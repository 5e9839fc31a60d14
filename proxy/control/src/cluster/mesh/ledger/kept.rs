//! What outlives its member, or this process: what is kept, restored and forgotten.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Known, Ledger};

impl Ledger {
    /// Forgets what is not needed any more: members long gone, and words of earlier
    /// lives, when somebody alive speaks about the same topics. Whether it did.
    pub(in super::super) fn forget(&mut self, now: Instant) -> bool {
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
    pub(in super::super) fn kept(&self) -> Vec<Kept> {
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
    pub(in super::super) fn restore(&mut self, kept: Kept) {
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
}

/// What is kept of one member over a restart.
#[derive(Clone, Debug, PartialEq)]
pub(in super::super) struct Kept {
    pub(in super::super) name: Arc<str>,
    pub(in super::super) life: u64,
    pub(in super::super) has_left: bool,
    pub(in super::super) at: Instant,
    /// Topic, version, when it was what the member says, body.
    pub(in super::super) words: Vec<(Arc<str>, u64, Instant, Bytes)>,
}
