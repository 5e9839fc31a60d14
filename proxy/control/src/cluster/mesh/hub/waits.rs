//! Those who wait: for confirmations of a word, for the answer to a question.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::super::party::{Asked, Unconfirmed};
use super::super::wire::{Frame, LARGEST_BODY};
use super::{Hub, State};
use crate::cluster::Heard;

impl Hub {
    /// Says something that is to be confirmed; nothing if there is nobody to.
    pub(in super::super) fn publish_watched(
        &self,
        topic: &'static str,
        body: Bytes,
    ) -> Option<(u64, oneshot::Receiver<()>)> {
        let mut state = self.lock();
        let version = self.say(&mut state, topic, body)?;
        let waiting = state.ledger.live().clone();
        if waiting.is_empty() {
            return None;
        }
        let (done, receiver) = oneshot::channel();
        let unconfirmed = Unconfirmed {
            topic,
            version,
            waiting,
            by: Vec::new(),
            done: Some(done),
        };
        state.last_id += 1;
        let id = state.last_id;
        state.unconfirmed.insert(id, unconfirmed);
        Some((id, receiver))
    }

    /// Who has confirmed so far. Nobody is waited for any longer.
    pub(in super::super) fn confirmed(&self, id: u64) -> Heard {
        let unconfirmed = self.lock().unconfirmed.remove(&id);
        unconfirmed.map_or_else(Heard::default, |unconfirmed| Heard {
            by: unconfirmed.by,
            missed: unconfirmed.waiting.into_iter().collect(),
        })
    }

    /// Asks everybody that is connected; nothing if nobody is.
    pub(in super::super) fn ask(
        &self,
        question: &'static str,
        body: &Bytes,
        patience: Duration,
    ) -> Option<(u64, oneshot::Receiver<Bytes>)> {
        let mut state = self.lock();
        if state.links.is_empty() || body.len() > LARGEST_BODY {
            return None;
        }
        state.last_id += 1;
        let id = state.last_id;
        for link in state.links.values() {
            link.outbox.send(Frame::Ask {
                id,
                question: question.into(),
                patience,
                body: body.clone(),
            });
        }
        let (sender, receiver) = oneshot::channel();
        let asked = Asked {
            waiting: state.links.keys().cloned().collect(),
            answer: Some(sender),
        };
        state.asked.insert(id, asked);
        Some((id, receiver))
    }

    /// Nobody waits for the answer any longer.
    pub(in super::super) fn unask(&self, id: u64) {
        self.lock().asked.remove(&id);
    }
}

impl State {
    /// A member answers.
    pub(super) fn answered(&mut self, id: u64, member: &str, body: Bytes) {
        let Some(asked) = self.asked.get_mut(&id) else {
            return;
        };
        if !asked.waiting.contains(member) {
            return;
        }
        if body.is_empty() {
            asked.without(member);
        } else if let Some(answer) = asked.answer.take() {
            let _nobody_waits = answer.send(body);
        }
    }
}
