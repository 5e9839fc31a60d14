//! What is said: by this member, by others, and what each side lacks of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;
use tracing::error;

use super::super::counters::Counters;
use super::super::ledger::{News, Unheard};
use super::super::outbox::Outbox;
use super::super::wire::{Frame, Summary, Word};
use super::{Hub, State};

impl Hub {
    pub(super) fn hear(&self, state: &mut State, outbox: &Outbox, word: &Word) {
        let counters = &self.counters;
        match state.ledger.hear(word, Instant::now()) {
            Ok(news) => {
                outbox.send(Frame::Heard {
                    member: Arc::clone(&word.member),
                    topic: Arc::clone(&word.topic),
                    version: word.version,
                    by: Arc::clone(&self.me),
                });
                if news == News::New {
                    Counters::add(&counters.facts, 1);
                    state.show(&word.topic);
                    self.changed();
                    self.news.notify_one();
                }
            }
            Err(Unheard::Old | Unheard::Own) => Counters::add(&counters.facts_old, 1),
            Err(Unheard::TooMuch) => Counters::add(&counters.facts_refused, 1),
        }
    }

    /// Finds out what a member knows better, and whom it is connected with.
    pub(super) fn compare(
        &self,
        state: &mut State,
        member: &Arc<str>,
        outbox: &Outbox,
        summaries: &[Summary],
    ) {
        let now = Instant::now();
        let mut wanted = Vec::new();
        let mut is_new = false;
        for summary in summaries {
            if summary.member == self.me {
                let versions = summary.words.iter().map(|(_, version)| *version);
                self.outlive(state, versions.fold(summary.life, u64::max));
            } else {
                wanted.extend(state.ledger.lacking(summary));
                is_new |= state.ledger.note(summary, now);
            }
        }
        if !wanted.is_empty() {
            outbox.send(Frame::Want(wanted));
        }
        let sees: BTreeSet<Arc<str>> = summaries
            .iter()
            .filter(|summary| summary.is_linked && state.ledger.is_member(&summary.member))
            .map(|summary| Arc::clone(&summary.member))
            .filter(|name| *name != self.me)
            .collect();
        if let Some(link) = state.links.get_mut(member)
            && (link.sees != sees || is_new)
        {
            link.sees = sees;
            self.refresh(state);
        }
    }

    /// Starts this member's life again if somebody knows of a later one.
    pub(super) fn outlive(&self, state: &mut State, floor: u64) {
        if state.ledger.outlive(floor, Instant::now()) {
            for topic in state.ledger.own_topics() {
                state
                    .links
                    .values()
                    .for_each(|link| link.outbox.word(&self.me, &topic));
            }
            state.links.values().for_each(|link| link.outbox.digest());
            self.changed();
        }
    }

    /// Somebody has a word: one of this member's, or one that it gave on.
    pub(super) fn heard(
        &self,
        state: &mut State,
        member: &Arc<str>,
        topic: &Arc<str>,
        version: u64,
        by: &Arc<str>,
    ) {
        if *member == self.me {
            for unconfirmed in state.unconfirmed.values_mut() {
                unconfirmed.confirm(topic, version, by);
            }
        } else if *by != self.me
            && by != member
            && let Some(link) = state.links.get(member)
        {
            link.outbox.send(Frame::Heard {
                member: Arc::clone(member),
                topic: Arc::clone(topic),
                version,
                by: Arc::clone(by),
            });
        }
    }

    /// Says something; its version.
    pub(super) fn say(&self, state: &mut State, topic: &'static str, body: Bytes) -> Option<u64> {
        let size = body.len();
        let now = Instant::now();
        let version = state.ledger.say(topic, body, now).ok();
        if version.is_none() {
            error!(
                topic,
                size, "What is to be told to the cluster is too large, what was told is taken back"
            );
            // Or others would take it for what is still so.
            let _told = state.ledger.say(topic, Bytes::new(), now);
        }
        let topic: Arc<str> = topic.into();
        state
            .links
            .values()
            .for_each(|link| link.outbox.word(&self.me, &topic));
        self.changed();
        version
    }

    /// Says something.
    pub(in super::super) fn publish(&self, topic: &'static str, body: Bytes) {
        self.say(&mut self.lock(), topic, body);
    }
}
