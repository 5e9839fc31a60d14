//! What the mesh counts, and the lines it writes about strangers.
//!
//! Counters only ever go up; metrics and the API read them. A stranger that knocks
//! again and again gets one line for each reason in [`QUIET`], not one each time.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

/// How long no further line is written for the same reason.
const QUIET: Duration = Duration::from_secs(30);

/// Why a connection was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Bytes that are no TLS, or no frame, or belong to another connection.
    Garbage,
    /// Nothing shows that it knows any secret.
    Stranger,
    /// It knows another secret, perhaps one of the past.
    OtherSecret,
    /// Its certificate is missing or not good.
    Certificate,
    /// It did not say who it is, or what it had begun to say, in time.
    Slow,
    /// Another version of the protocol, or none that is spoken here.
    Protocol,
    /// Another live member has its name.
    NameTaken,
    /// Too many connections are being made, or there are too many members.
    Busy,
}

/// All reasons, with their names in metrics.
pub const REASONS: [(Reason, &str); 8] = [
    (Reason::Garbage, "garbage"),
    (Reason::Stranger, "stranger"),
    (Reason::OtherSecret, "other_secret"),
    (Reason::Certificate, "certificate"),
    (Reason::Slow, "slow"),
    (Reason::Protocol, "protocol"),
    (Reason::NameTaken, "name_taken"),
    (Reason::Busy, "busy"),
];

/// What the mesh counts.
#[derive(Debug, Default)]
pub struct Counters {
    refused: [AtomicU64; REASONS.len()],
    /// Until when nothing is written: for each reason, and for peers that end handshakes.
    quiet: Mutex<[Option<Instant>; REASONS.len() + 1]>,
    /// Members that can be reached; the only one that goes down, too.
    pub live: AtomicU64,
    /// Connections that came about.
    pub links: AtomicU64,
    /// Connections that ended because the other end was too slow or silent.
    pub links_lost: AtomicU64,
    /// Bytes of frames that were received.
    pub received_bytes: AtomicU64,
    /// Bytes of frames that were sent.
    pub sent_bytes: AtomicU64,
    /// Words of other members that were new.
    pub facts: AtomicU64,
    /// Words that were older than what is known: late, or repeated.
    pub facts_old: AtomicU64,
    /// Words that were too large or too many.
    pub facts_refused: AtomicU64,
    /// Questions of other members.
    pub questions: AtomicU64,
    /// Those of them that were not answered, for there were too many at once.
    pub questions_refused: AtomicU64,
    /// Connections to peers that these ended before both had said who they are.
    pub dials_refused: AtomicU64,
    /// When the state file was last written, in seconds since 1970; 0 for never.
    pub state_written: AtomicU64,
    /// Times that the state file could not be written.
    pub state_failed: AtomicU64,
}

impl Counters {
    /// How many connections were not taken for this reason.
    pub fn refused(&self, reason: Reason) -> u64 {
        self.of(reason).map_or(0, |counter| counter.load(Relaxed))
    }

    fn of(&self, reason: Reason) -> Option<&AtomicU64> {
        self.refused.get(reason.index())
    }

    /// Counts a connection that is not taken, and says so if that is news.
    pub(super) fn refuse(&self, reason: Reason, peer: IpAddr, error: &str) {
        if let Some(counter) = self.of(reason) {
            counter.fetch_add(1, Relaxed);
        }
        if self.is_news(reason.index()) {
            let reason = reason.name();
            warn!(client.addr = %peer, reason, error, "Refused a connection to the mesh");
        }
    }

    /// Counts a peer that ends the handshake, and says so if that is news.
    pub(super) fn rejected(&self, peer: SocketAddr, error: &io::Error) {
        Self::add(&self.dials_refused, 1);
        if self.is_news(REASONS.len()) {
            warn!(
                server.addr = %peer, %error,
                "A peer does not accept this member, perhaps they have different secrets"
            );
        }
    }

    fn is_news(&self, reason: usize) -> bool {
        let now = Instant::now();
        let mut quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(until) = quiet.get_mut(reason) else {
            return false;
        };
        let is_news = until.is_none_or(|until| until <= now);
        if is_news {
            *until = Some(now + QUIET);
        }
        is_news
    }

    /// Adds to a counter.
    pub(super) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Relaxed);
    }
}

impl Reason {
    fn index(self) -> usize {
        REASONS
            .iter()
            .take_while(|(reason, _)| *reason != self)
            .count()
    }

    fn name(self) -> &'static str {
        REASONS.get(self.index()).map_or("", |(_, name)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn counts_every_time_and_speaks_once() {
        let counters = Counters::default();
        assert!(counters.is_news(Reason::Stranger.index()));
        assert!(!counters.is_news(Reason::Stranger.index()));
        assert!(counters.is_news(Reason::Slow.index()));
        tokio::time::advance(QUIET).await;
        assert!(counters.is_news(Reason::Stranger.index()));
        for (reason, name) in REASONS {
            counters.refuse(reason, [127, 0, 0, 1].into(), "");
            assert_eq!((counters.refused(reason), reason.name()), (1, name));
        }
    }
}
