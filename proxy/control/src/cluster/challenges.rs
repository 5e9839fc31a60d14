//! Challenges over the mesh: every live member answers them before the authority is
//! told to look, and who missed one asks for it.
//!
//! A member says at once which challenges of its own are open; others put them on their
//! [`Board`], from which they also answer questions. Nobody passes a question on.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, poll_fn};
use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

use super::{Answer, Heard, Mesh};
use crate::acme::authority::{Announce, AnnounceError};
use crate::acme::challenge::{Board, Challenge, ChallengeKind, Lookup};
use crate::acme::store::json::Document;
use crate::acme::store::{Contents, ResolverContents};

/// What a member's own open challenges are said under.
const TOPIC: &str = "challenges";

/// What is asked when an authority asks for an unknown one.
const QUESTION: &str = "challenge";

/// How long members have to confirm a challenge. One that lives and does not can still ask.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long members have to answer. The board gives up after two seconds.
const ANSWER_WITHIN: Duration = Duration::from_millis(1500);

/// No name and no token is as long as this.
const LONGEST_KEY: usize = 1024;

/// The source that the board knows members' challenges by.
const SOURCE: &str = "mesh";

/// The challenges of all members.
pub struct MeshChallenges {
    mesh: Arc<dyn Mesh>,
    board: Arc<Board>,
    /// Those of this member's own orders.
    own: Mutex<Vec<Challenge>>,
}

/// What a member asks for.
#[derive(Serialize, Deserialize)]
struct Question {
    #[serde(rename = "type")]
    kind: String,
    key: String,
}

impl MeshChallenges {
    /// Lets the board have what others say, and others what the board has: answers
    /// questions from it, and asks what it misses. [`Self::follow`] has to run too.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn join(mesh: Arc<dyn Mesh>, board: Arc<Board>) -> Arc<Self> {
        mesh.answer(QUESTION, Arc::new(FromBoard(Arc::clone(&board))));
        let joined = Arc::new(Self {
            mesh,
            board,
            own: Mutex::default(),
        });
        let lookup = Arc::clone(&joined);
        joined.board.also_ask(lookup);
        joined
    }

    /// Puts on the board what members say, for as long as there is a mesh. The last
    /// word of one that is away counts until its challenges are over.
    pub async fn follow(self: Arc<Self>) {
        let mut facts = self.mesh.facts(TOPIC);
        loop {
            let now = Arc::clone(&facts.borrow_and_update());
            let challenges = now.iter().flat_map(|fact| {
                let challenges = decode(&fact.body);
                if challenges.is_none() {
                    warn!(member = %fact.member, "A member's challenges can't be read");
                }
                challenges.unwrap_or_default()
            });
            self.board.replace(SOURCE, challenges);
            if facts.changed().await.is_err() {
                return;
            }
        }
    }

    /// Says what is open now, and waits for those who live. Of two who do this at once
    /// the second one's word is the last, because it is said under the lock.
    async fn tell(&self) -> Heard {
        let mut telling = None;
        let first = poll_fn(|context| {
            let own = self.own();
            let telling = telling
                .get_or_insert_with(|| self.mesh.publish_confirmed(TOPIC, encode(&own), PATIENCE));
            Poll::Ready(telling.poll_unpin(context))
        });
        match (first.await, telling) {
            (Poll::Ready(heard), _) => heard,
            (Poll::Pending, Some(telling)) => telling.await,
            (Poll::Pending, None) => Heard::default(),
        }
    }

    fn own(&self) -> MutexGuard<'_, Vec<Challenge>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, kind: ChallengeKind, key: &str) -> Option<Challenge> {
        let question = Question {
            kind: name_of(kind).to_owned(),
            key: key.to_owned(),
        };
        let question = serde_json::to_vec(&question).ok()?;
        let answer = self.mesh.ask(QUESTION, question.into(), ANSWER_WITHIN);
        let found = decode(&answer.await?)?;
        let is_it = |found: &Challenge| found.kind == kind && found.key() == key;
        found.into_iter().find(is_it)
    }
}

impl Announce for MeshChallenges {
    fn present<'a>(&'a self, challenge: &'a Challenge) -> BoxFuture<'a, Result<(), AnnounceError>> {
        async move {
            self.board.present(challenge);
            let now = SystemTime::now();
            {
                let mut own = self.own();
                own.retain(|known| known.token != challenge.token && known.expires > now);
                own.push(challenge.clone());
            }
            let Heard { by, missed } = self.tell().await;
            debug!(
                name = challenge.name,
                members = by.len(),
                "Members answer a challenge"
            );
            if !missed.is_empty() {
                // It can still find it by asking.
                warn!(
                    name = challenge.name,
                    ?missed,
                    "Members did not confirm a challenge in time"
                );
            }
            Ok(())
        }
        .boxed()
    }

    fn withdraw<'a>(&'a self, challenge: &'a Challenge) -> BoxFuture<'a, ()> {
        async move {
            self.board.withdraw(&challenge.token);
            let mut own = self.own();
            own.retain(|known| known.token != challenge.token);
            self.mesh.publish(TOPIC, encode(&own));
        }
        .boxed()
    }
}

impl Lookup for MeshChallenges {
    fn find<'a>(&'a self, kind: ChallengeKind, key: &'a str) -> BoxFuture<'a, Option<Challenge>> {
        self.ask(kind, key).boxed()
    }
}

impl fmt::Debug for MeshChallenges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshChallenges")
            .field("own", &self.own().len())
            .finish_non_exhaustive()
    }
}

/// Answers members' questions with what is known here.
#[derive(Debug)]
struct FromBoard(Arc<Board>);

impl FromBoard {
    fn find(&self, question: &[u8]) -> Option<Bytes> {
        let question: Question = serde_json::from_slice(question).ok()?;
        if question.key.len() > LONGEST_KEY {
            return None;
        }
        let kinds = [ChallengeKind::Http01, ChallengeKind::TlsAlpn01];
        let kind = kinds
            .into_iter()
            .find(|kind| name_of(*kind) == question.kind)?;
        let challenge = self.0.peek(kind, &question.key)?;
        Some(encode(&[Challenge::clone(&challenge)]))
    }
}

impl Answer for FromBoard {
    fn answer(&self, body: Bytes) -> BoxFuture<'_, Bytes> {
        let answer = self.find(&body).unwrap_or_default();
        async move { answer }.boxed()
    }
}

/// RFC 8555's and RFC 8737's names.
fn name_of(kind: ChallengeKind) -> &'static str {
    match kind {
        ChallengeKind::Http01 => "http-01",
        ChallengeKind::TlsAlpn01 => "tls-alpn-01",
    }
}

/// In the form of the stores; nothing at all if there is none.
fn encode(challenges: &[Challenge]) -> Bytes {
    if challenges.is_empty() {
        return Bytes::new();
    }
    let part = ResolverContents {
        challenges: challenges.to_vec(),
        ..ResolverContents::default()
    };
    let mut contents = Contents::default();
    contents.resolvers.insert(String::new(), part);
    Document::from(&contents).to_text().into()
}

fn decode(body: &[u8]) -> Option<Vec<Challenge>> {
    let contents = Document::parse(body).ok()?.meaning().contents;
    let parts = contents.resolvers.into_values();
    Some(parts.flat_map(|part| part.challenges).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::memory::Network;

    fn challenge(kind: ChallengeKind, token: &str) -> Challenge {
        Challenge {
            kind,
            name: "a.example".to_owned(),
            token: token.to_owned(),
            key_authorization: format!("{token}.thumb"),
            // Whole seconds are what is told.
            expires: SystemTime::UNIX_EPOCH + Duration::from_secs(9_999_999_999),
        }
    }

    fn join(network: &Network, name: &str) -> (Arc<MeshChallenges>, Arc<Board>) {
        let board = Arc::new(Board::default());
        let joined = MeshChallenges::join(network.join(name), Arc::clone(&board));
        (joined, board)
    }

    #[tokio::test]
    async fn all_members_answer_once_it_is_presented() {
        let network = Network::new();
        let (ours, our_board) = join(&network, "a");
        let (theirs, their_board) = join(&network, "b");
        let following = tokio::spawn(theirs.follow());
        let (one, two) = (
            challenge(ChallengeKind::Http01, "one"),
            challenge(ChallengeKind::TlsAlpn01, "two"),
        );
        let (first, second) = tokio::join!(ours.present(&one), ours.present(&two));
        first.unwrap();
        second.unwrap();
        assert!(our_board.peek(ChallengeKind::Http01, "one").is_some());
        while their_board
            .peek(ChallengeKind::TlsAlpn01, "a.example")
            .is_none()
        {
            tokio::task::yield_now().await;
        }
        let found = their_board.peek(ChallengeKind::Http01, "one").unwrap();
        assert_eq!(*found, one);
        ours.withdraw(&one).await;
        while their_board.peek(ChallengeKind::Http01, "one").is_some() {
            tokio::task::yield_now().await;
        }
        assert!(
            their_board
                .peek(ChallengeKind::TlsAlpn01, "a.example")
                .is_some()
        );
        ours.withdraw(&two).await;
        assert!(ours.mesh.facts(TOPIC).borrow().is_empty());
        following.abort();
    }

    #[tokio::test]
    async fn what_was_missed_is_asked_for() {
        let network = Network::new();
        let (ours, _) = join(&network, "a");
        // Hears no facts, because nobody follows them.
        let (theirs, their_board) = join(&network, "b");
        let one = challenge(ChallengeKind::Http01, "one");
        ours.present(&one).await.unwrap();
        let found = their_board.find(ChallengeKind::Http01, "one").await;
        assert_eq!(found.as_deref(), Some(&one));
        assert_eq!(theirs.find(ChallengeKind::Http01, "two").await, None);
        assert_eq!(theirs.find(ChallengeKind::TlsAlpn01, "one").await, None);
        network.kill("a");
        assert_eq!(theirs.find(ChallengeKind::Http01, "one").await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deaf_member_delays_and_does_not_prevent() {
        let network = Network::new();
        let (ours, _) = join(&network, "a");
        let (_theirs, _) = join(&network, "b");
        network.set_deaf("b", true);
        let start = tokio::time::Instant::now();
        let one = challenge(ChallengeKind::Http01, "one");
        ours.present(&one).await.unwrap();
        assert_eq!(start.elapsed(), PATIENCE);
    }

    #[test]
    fn nonsense_is_not_answered() {
        let answer = FromBoard(Arc::new(Board::default()));
        let long = format!("{{\"type\":\"http-01\",\"key\":\"{}\"}}", "x".repeat(5000));
        for question in ["", "{}", "[]", "{\"type\":\"x\",\"key\":\"y\"}", &long] {
            assert_eq!(answer.find(question.as_bytes()), None);
        }
        assert_eq!(decode(b"{"), None);
        assert_eq!(decode(b""), Some(Vec::new()));
    }
}
