//! What the proxies of a cluster tell each other, under a secret that they share.
//!
//! Peers talk over mutual TLS under an authority that follows from the cluster's
//! secret; without it nothing is answered. Over it go challenges, certificates,
//! the keys of session tickets, and what a manager's provider says for workers
//! that have no engine to ask. Nothing here decides: what arrives is handed on.

pub mod certificates;
pub mod challenges;
pub mod fallback;
#[cfg(test)]
pub(crate) mod memory;
pub mod mesh;
pub mod relay;
pub mod seal;
pub mod secret;
pub mod tickets;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::Instant;

/// What one member says about one topic until it says something else.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    /// Who says it.
    pub member: Arc<str>,
    /// Counts what the member said about the topic; higher is newer.
    pub version: u64,
    /// What it says. Its form is the topic's business.
    pub body: Bytes,
    /// When it arrived; once the member can't be reached, when it was last known to be
    /// what it says. A member that is away keeps its last word.
    pub at: Instant,
    /// Whether the member can be reached now.
    pub is_live: bool,
}

/// Who heard something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Members that confirmed it.
    pub by: Vec<Arc<str>>,
    /// Members that are thought to be alive and did not confirm it in time.
    pub missed: Vec<Arc<str>>,
}

/// A member of the cluster as this one sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Its name.
    pub name: Arc<str>,
    /// Its address, if it is known.
    pub address: Option<std::net::SocketAddr>,
    /// Whether it can be reached now.
    pub is_live: bool,
    /// When it was last heard of.
    pub heard_at: Option<Instant>,
}

/// The members' common ground. Implemented over the network by the mesh; tests have
/// one in memory.
pub trait Mesh: fmt::Debug + Send + Sync {
    /// This member's name.
    fn name(&self) -> &Arc<str>;

    /// All other members that were ever heard of and have not left.
    fn members(&self) -> watch::Receiver<Arc<Vec<Member>>>;

    /// Says something about a topic to all members, now and to those who come later.
    /// An empty body takes it back.
    fn publish(&self, topic: &'static str, body: Bytes);

    /// What the other members say about a topic, by member.
    fn facts(&self, topic: &'static str) -> watch::Receiver<Arc<Vec<Fact>>>;

    /// Publishes, and returns when every live member has confirmed it, or after `patience`.
    fn publish_confirmed(
        &self,
        topic: &'static str,
        body: Bytes,
        patience: Duration,
    ) -> BoxFuture<'_, Heard>;

    /// Asks all live members that are reached directly at once; the first answer that is
    /// not empty, if one comes in time.
    fn ask<'a>(
        &'a self,
        question: &'static str,
        body: Bytes,
        patience: Duration,
    ) -> BoxFuture<'a, Option<Bytes>>;

    /// Says who answers a question of other members here. One for each question.
    fn answer(&self, question: &'static str, with: Arc<dyn Answer>);
}

/// Answers the questions of other members. Whatever they send is hostile until it is parsed.
pub trait Answer: fmt::Debug + Send + Sync {
    /// The answer; empty means that there is none.
    fn answer(&self, body: Bytes) -> BoxFuture<'_, Bytes>;
}
