//! What the hub keeps: connections, and those who wait.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::framing::Pace;
use super::outbox::Outbox;
use super::wire::Hello;

/// Which of several connections between the same two members is kept. Both ends come
/// to the same one: whether it was made by the member with the lower name, then by lot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank(bool, u64);

impl Rank {
    pub(super) fn new(ours: &Hello, theirs: &Hello, is_dialled: bool) -> Self {
        let by_lower = is_dialled == (ours.name < theirs.name);
        Self(by_lower, ours.nonce ^ theirs.nonce)
    }
}

/// Two that have said who they are and want each other.
#[derive(Debug)]
pub(super) struct Greeted {
    /// The other one.
    pub(super) hello: Hello,
    /// What it knows of this one.
    pub(super) floor: u64,
    pub(super) rank: Rank,
}

/// A connection that was taken in.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) id: u64,
    pub(super) outbox: Arc<Outbox>,
    /// Cancelled when another one takes its place.
    pub(super) stop: CancellationToken,
}

/// A connection with a member.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) id: u64,
    pub(super) instance: u64,
    /// Where the member listens, and where it was reached, which may differ.
    pub(super) addresses: [SocketAddr; 2],
    pub(super) rank: Rank,
    since: Instant,
    pub(super) outbox: Arc<Outbox>,
    /// Members that the other end is connected with.
    pub(super) sees: BTreeSet<Arc<str>>,
    pub(super) heard_at: Instant,
    pub(super) stop: CancellationToken,
}

/// A question on its way.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) waiting: BTreeSet<Arc<str>>,
    pub(super) answer: Option<oneshot::Sender<Bytes>>,
}

/// A word that somebody waits to be confirmed.
#[derive(Debug)]
pub(super) struct Unconfirmed {
    pub(super) topic: &'static str,
    pub(super) version: u64,
    pub(super) waiting: BTreeSet<Arc<str>>,
    pub(super) by: Vec<Arc<str>>,
    pub(super) done: Option<oneshot::Sender<()>>,
}

impl Link {
    pub(super) fn new(greeted: &Greeted, peer: SocketAddr, joined: &Joined) -> Self {
        let now = Instant::now();
        Self {
            id: joined.id,
            instance: greeted.hello.instance,
            addresses: [SocketAddr::new(peer.ip(), greeted.hello.port), peer],
            rank: greeted.rank,
            since: now,
            outbox: Arc::clone(&joined.outbox),
            sees: BTreeSet::new(),
            heard_at: now,
            stop: joined.stop.clone(),
        }
    }

    /// Whether it stands for long enough that both ends know it.
    pub(super) fn is_established(&self, pace: Pace) -> bool {
        self.since.elapsed() > pace.ping * 2
    }

    /// Whether something was heard over it just now.
    pub(super) fn is_lively(&self, pace: Pace) -> bool {
        self.heard_at.elapsed() < pace.ping * 2
    }
}

impl Asked {
    /// One less to wait for.
    pub(super) fn without(&mut self, member: &str) {
        self.waiting.remove(member);
        if self.waiting.is_empty() {
            self.answer = None;
        }
    }
}

impl Unconfirmed {
    pub(super) fn confirm(&mut self, topic: &str, version: u64, by: &Arc<str>) {
        if self.topic == topic && version >= self.version && self.waiting.remove(by) {
            self.by.push(Arc::clone(by));
            self.end_if_done();
        }
    }

    /// Who is gone is not waited for.
    pub(super) fn keep(&mut self, live: &BTreeSet<Arc<str>>) {
        self.waiting.retain(|name| live.contains(name));
        self.end_if_done();
    }

    fn end_if_done(&mut self) {
        if self.waiting.is_empty()
            && let Some(done) = self.done.take()
        {
            let _nobody_waits = done.send(());
        }
    }
}
