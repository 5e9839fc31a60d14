//! What all connections of this member share.
//!
//! One lock, held for short and never over an await: the ledger, who is connected,
//! and who waits for confirmations and answers. Connections ([`super::link`]) bring
//! frames here and take from their outboxes what is to be sent.
//!
//! Own words go to everybody at once. Those of others are asked for by whoever finds
//! in a digest that it lacks them, so that a word crosses each line once, and one that
//! can't be reached directly is heard through others. Such a member counts as live
//! while somebody who is connected with it says so; its confirmations come the same way.

mod shown;
mod waits;
mod words;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use super::counters::Counters;
use super::framing::Pace;
use super::ledger::Ledger;
use super::party::{Asked, Greeted, Joined, Link, Rank, Unconfirmed};
use super::wire::{Frame, Hello, Refusal};
use crate::cluster::{Answer, Fact, Member};

/// Connections at the same time.
const LINKS: usize = 255;

/// See the module's head.
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) me: Arc<str>,
    pub(super) instance: u64,
    pub(super) port: u16,
    pub(super) pace: Pace,
    pub(super) counters: Arc<Counters>,
    /// Ends everything.
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
    /// There is something that others may lack.
    pub(super) news: Notify,
    /// Counts changes of what the state file holds.
    pub(super) changes: watch::Sender<u64>,
    /// Counts changes of who is connected.
    pub(super) linked: watch::Sender<u64>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ledger: Ledger,
    links: BTreeMap<Arc<str>, Link>,
    last_id: u64,
    topics: HashMap<&'static str, watch::Sender<Arc<Vec<Fact>>>>,
    members: watch::Sender<Arc<Vec<Member>>>,
    answers: HashMap<&'static str, Arc<dyn Answer>>,
    asked: HashMap<u64, Asked>,
    unconfirmed: HashMap<u64, Unconfirmed>,
}

/// A question to be answered.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) id: u64,
    pub(super) body: Bytes,
    pub(super) patience: std::time::Duration,
    pub(super) with: Arc<dyn Answer>,
}

impl Hub {
    /// A hub without connections.
    pub(super) fn new(
        ledger: Ledger,
        me: Arc<str>,
        port: u16,
        pace: Pace,
        stop: CancellationToken,
    ) -> Self {
        let hub = Self {
            me,
            instance: fastrand::u64(..),
            port,
            pace,
            counters: Arc::default(),
            stop,
            tasks: TaskTracker::new(),
            news: Notify::new(),
            changes: watch::Sender::default(),
            linked: watch::Sender::default(),
            state: Mutex::new(State {
                ledger,
                links: BTreeMap::new(),
                last_id: 0,
                topics: HashMap::new(),
                members: watch::Sender::default(),
                answers: HashMap::new(),
                asked: HashMap::new(),
                unconfirmed: HashMap::new(),
            }),
        };
        hub.refresh(&mut hub.lock());
        hub
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads or changes the ledger.
    pub(super) fn with_ledger<T>(&self, work: impl FnOnce(&mut Ledger) -> T) -> T {
        work(&mut self.lock().ledger)
    }

    /// Who this member is.
    pub(super) fn hello(&self) -> Hello {
        Hello {
            name: Arc::clone(&self.me),
            instance: self.instance,
            life: self.lock().ledger.life(),
            port: self.port,
            nonce: fastrand::u64(..),
        }
    }

    /// Whether a member that says who it is may come in; if so, the highest version
    /// that is known of it.
    pub(super) fn judge(&self, hello: &Hello, rank: Rank) -> Result<u64, Refusal> {
        let state = self.lock();
        if hello.instance == self.instance {
            return Err(Refusal::Itself);
        }
        if hello.name == self.me {
            return Err(Refusal::NameTaken);
        }
        match state.links.get(&hello.name) {
            Some(link) if link.is_lively(self.pace) => {
                if link.instance != hello.instance {
                    return Err(Refusal::NameTaken);
                }
                if link.is_established(self.pace) || link.rank >= rank {
                    return Err(Refusal::Linked);
                }
            }
            None if state.links.len() >= LINKS => return Err(Refusal::Full),
            Some(_) | None => {}
        }
        Ok(state.ledger.floor(&hello.name))
    }

    /// Takes a connection in. If there is a better one with the same member, made in
    /// the meantime, this one is to end soon.
    pub(super) fn join(&self, greeted: &Greeted, peer: SocketAddr) -> Joined {
        let hello = &greeted.hello;
        let mut state = self.lock();
        state.last_id += 1;
        let joined = Joined {
            id: state.last_id,
            outbox: Arc::default(),
            stop: CancellationToken::new(),
        };
        let mut link = Link::new(greeted, peer, &joined);
        let before = state.links.get(&hello.name);
        let before = before.filter(|before| before.instance == hello.instance);
        if let Some(before) = before {
            if before.is_lively(self.pace) && before.rank >= greeted.rank {
                joined.stop.cancel();
                return joined;
            }
            link.sees.clone_from(&before.sees);
        }
        match state.links.insert(Arc::clone(&hello.name), link) {
            Some(before) => before.stop.cancel(),
            None => info!(member = %hello.name, client.addr = %peer, "A member joined"),
        }
        state.ledger.meet(&hello.name, hello.life, Instant::now());
        self.outlive(&mut state, greeted.floor);
        joined.outbox.digest();
        if self.stop.is_cancelled() {
            joined.outbox.end();
        }
        self.refresh(&mut state);
        Counters::add(&self.counters.links, 1);
        joined
    }

    /// A connection has ended.
    pub(super) fn part(&self, member: &Arc<str>, id: u64, reason: &str) {
        let mut state = self.lock();
        let link = state.links.get(member).filter(|link| link.id == id);
        let Some(heard_at) = link.map(|link| link.heard_at) else {
            return;
        };
        state.links.remove(member);
        state.ledger.lost(member, heard_at);
        state
            .asked
            .values_mut()
            .for_each(|asked| asked.without(member));
        self.refresh(&mut state);
        if !self.stop.is_cancelled() {
            info!(member = %member, error = reason, "A member is gone");
        }
    }

    /// Whether a member is connected.
    pub(super) fn is_linked(&self, member: &str) -> bool {
        self.lock().links.contains_key(member)
    }

    /// Whether there is a connection with whoever is at this address.
    pub(super) fn is_linked_at(&self, address: SocketAddr) -> bool {
        let state = self.lock();
        let mut links = state.links.values();
        links.any(|link| link.addresses.contains(&address))
    }

    /// Lets everybody know what is known here.
    pub(super) fn send_digests(&self) {
        self.lock()
            .links
            .values()
            .for_each(|link| link.outbox.digest());
    }

    /// Sends what waits everywhere, and good-bye.
    pub(super) fn end(&self) {
        self.lock()
            .links
            .values()
            .for_each(|link| link.outbox.end());
    }

    /// What is known of everybody.
    pub(super) fn digest(&self) -> Frame {
        let state = self.lock();
        let is_linked = |name: &str| state.links.contains_key(name);
        Frame::Digest(state.ledger.digest(is_linked, Instant::now()))
    }

    /// A member's present word, if it has one.
    pub(super) fn word(&self, member: &Arc<str>, topic: &Arc<str>) -> Option<Frame> {
        self.lock().ledger.word(member, topic).map(Frame::Word)
    }

    /// Forgets what is not needed any more.
    pub(super) fn forget(&self) {
        let mut state = self.lock();
        if state.ledger.forget(Instant::now()) {
            self.refresh(&mut state);
        }
    }

    /// Obeys a frame of a member; a question is the caller's to have answered. It may
    /// come over a connection whose place another one has taken.
    pub(super) fn take(&self, hello: &Hello, frame: Frame) -> Option<Question> {
        let member = &hello.name;
        let mut state = self.lock();
        let link = state.links.get_mut(member);
        let link = link.filter(|link| link.instance == hello.instance)?;
        link.heard_at = Instant::now();
        let outbox = Arc::clone(&link.outbox);
        match frame {
            Frame::Word(word) => self.hear(&mut state, &outbox, &word),
            Frame::Digest(summaries) => self.compare(&mut state, member, &outbox, &summaries),
            Frame::Want(words) => {
                let ledger = &state.ledger;
                let known = |(member, topic): &&(_, _)| ledger.word(member, topic).is_some();
                for (member, topic) in words.iter().filter(known) {
                    outbox.word(member, topic);
                }
            }
            Frame::Heard {
                member,
                topic,
                version,
                by,
            } => self.heard(&mut state, &member, &topic, version, &by),
            Frame::Ask {
                id,
                question,
                patience,
                body,
            } => {
                Counters::add(&self.counters.questions, 1);
                let Some(with) = state.answers.get(&*question) else {
                    let body = Bytes::new();
                    outbox.send(Frame::Answer { id, body });
                    return None;
                };
                return Some(Question {
                    id,
                    body,
                    patience,
                    with: Arc::clone(with),
                });
            }
            Frame::Answer { id, body } => state.answered(id, member, body),
            Frame::Bye => state.ledger.leave(member),
            Frame::Ping | Frame::Hello(_) | Frame::Welcome { .. } | Frame::Refused(_) => {}
        }
        None
    }

    /// Who answers a question.
    pub(super) fn set_answer(&self, question: &'static str, with: Arc<dyn Answer>) {
        self.lock().answers.insert(question, with);
    }
}
