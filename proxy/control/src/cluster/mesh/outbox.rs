//! What waits to be sent over one connection.
//!
//! Words are not queued but named: when their turn comes the present one is sent, so
//! that a slow peer gets fewer of them and never more memory. Everything else is
//! bounded; a peer that lets it overflow is dropped.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::wire::{Frame, LARGEST_BODY};

/// Frames that may wait, words aside.
const FRAMES: usize = 2048;

/// Bytes in them, about.
const BYTES: usize = 4 * LARGEST_BODY;

/// What an entry of a list takes beside its names.
const ENTRY: usize = 64;

/// What is to be sent next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// This frame.
    Frame(Frame),
    /// What everybody is known to say.
    Digest,
    /// What this member says about this topic now.
    Word(Arc<str>, Arc<str>),
    /// Nothing more, ever.
    End,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<Frame>,
    bytes: usize,
    digest: bool,
    words: BTreeSet<(Arc<str>, Arc<str>)>,
    is_ending: bool,
    has_overflown: bool,
}

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

impl Outbox {
    /// Sends a frame after those that wait.
    pub(super) fn send(&self, frame: Frame) {
        self.change(|waiting| {
            if waiting.has_overflown {
                return;
            }
            waiting.bytes = waiting.bytes.saturating_add(size_of(&frame));
            waiting.frames.push_back(frame);
            waiting.has_overflown |= waiting.frames.len() > FRAMES || waiting.bytes > BYTES;
        });
    }

    /// Sends a member's present word on a topic.
    pub(super) fn word(&self, member: &Arc<str>, topic: &Arc<str>) {
        let word = (Arc::clone(member), Arc::clone(topic));
        self.change(|waiting| {
            waiting.words.insert(word);
        });
    }

    /// Sends a digest.
    pub(super) fn digest(&self) {
        self.change(|waiting| waiting.digest = true);
    }

    /// Sends what waits and says good-bye.
    pub(super) fn end(&self) {
        self.change(|waiting| {
            waiting.frames.push_back(Frame::Bye);
            waiting.words.clear();
            waiting.digest = false;
            waiting.is_ending = true;
        });
    }

    /// Whether more waited than may.
    pub(super) fn has_overflown(&self) -> bool {
        self.lock().has_overflown
    }

    /// What is to be sent next, if anything is.
    pub(super) fn try_next(&self) -> Option<Next> {
        let mut waiting = self.lock();
        if let Some(frame) = waiting.frames.pop_front() {
            waiting.bytes = waiting.bytes.saturating_sub(size_of(&frame));
            return Some(Next::Frame(frame));
        }
        if std::mem::take(&mut waiting.digest) {
            return Some(Next::Digest);
        }
        if let Some((member, topic)) = waiting.words.pop_first() {
            return Some(Next::Word(member, topic));
        }
        waiting.is_ending.then_some(Next::End)
    }

    /// Resolves when there may be something to send.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    fn change(&self, change: impl FnOnce(&mut Waiting)) {
        change(&mut self.lock());
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size_of(frame: &Frame) -> usize {
    match frame {
        Frame::Ask { body, .. } | Frame::Answer { body, .. } => body.len(),
        Frame::Want(words) => {
            let size = |(member, topic): &(Arc<str>, Arc<str>)| member.len() + topic.len() + ENTRY;
            words.iter().map(size).sum()
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn words_are_sent_once_and_after_everything_else() {
        let outbox = Outbox::default();
        let (a, t): (Arc<str>, Arc<str>) = ("a".into(), "t".into());
        for _ in 0..10_000 {
            outbox.word(&a, &t);
            outbox.digest();
        }
        outbox.send(Frame::Ping);
        assert!(!outbox.has_overflown());
        assert_eq!(outbox.try_next(), Some(Next::Frame(Frame::Ping)));
        assert_eq!(outbox.try_next(), Some(Next::Digest));
        assert_eq!(outbox.try_next(), Some(Next::Word(a, t)));
        assert_eq!(outbox.try_next(), None);
        outbox.end();
        assert_eq!(outbox.try_next(), Some(Next::Frame(Frame::Bye)));
        assert_eq!(outbox.try_next(), Some(Next::End));
    }

    #[test]
    fn who_lets_it_overflow_is_found_out() {
        let outbox = Outbox::default();
        (0..FRAMES).for_each(|_| outbox.send(Frame::Ping));
        assert!(!outbox.has_overflown());
        outbox.send(Frame::Ping);
        assert!(outbox.has_overflown());
        let outbox = Outbox::default();
        let body = Bytes::from(vec![0; LARGEST_BODY]);
        for id in 0..5 {
            outbox.send(Frame::Answer {
                id,
                body: body.clone(),
            });
        }
        assert!(outbox.has_overflown());
    }
}
