//! Challenges, made answerable wherever the authority may look.
//!
//! This process answers at once. The others find them in the store that they share,
//! and hear of them from each other where there is a cluster.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join};

use crate::acme::authority::{Announce, AnnounceError};
use crate::acme::challenge::{Board, Challenge, ChallengeKind};
use crate::acme::store::{Change, Store};

/// The smallest time that every store tells apart.
const TICK: Duration = Duration::from_secs(1);

/// Tells this process, the store and the other members.
#[derive(Debug)]
pub struct Everywhere {
    /// The resolver whose challenges they are.
    pub resolver: Arc<str>,
    /// What this process answers with.
    pub board: Arc<Board>,
    /// Where other proxies find them.
    pub store: Arc<dyn Store>,
    /// The other members, if there is a cluster.
    pub members: Option<Arc<dyn Announce>>,
}

impl Everywhere {
    /// What a proxy that died left in the store of an earlier order for the same name: a
    /// handshake can be answered for one order only.
    fn left_behind(&self, challenge: &Challenge) -> Vec<Challenge> {
        let observed = Arc::clone(&self.store.observed().borrow());
        let contents = observed.contents.as_ref();
        let own = contents.and_then(|contents| contents.resolvers.get(&*self.resolver));
        let known = own.into_iter().flat_map(|own| &own.challenges);
        known
            .filter(|known| follows(challenge, known))
            .cloned()
            .collect()
    }

    /// The challenge, made to end later than any that it follows. Of two, proxies take the
    /// one that ends last, and neither the clocks of two machines nor the store's whole
    /// seconds tell which that is.
    fn outlast(&self, challenge: &Challenge, left: &[Challenge]) -> Challenge {
        let known = self.board.peek(challenge.kind, &challenge.key());
        let known = known.as_deref().filter(|known| follows(challenge, known));
        let ends = left.iter().chain(known).map(|known| known.expires);
        // What lies in a store may name the end of time.
        let after = ends.max().and_then(|last| last.checked_add(TICK));
        Challenge {
            expires: after.map_or(challenge.expires, |after| after.max(challenge.expires)),
            ..challenge.clone()
        }
    }
}

/// Whether the challenge is of another order for the same name than `known`, and takes its
/// place in handshakes.
fn follows(challenge: &Challenge, known: &Challenge) -> bool {
    challenge.kind == ChallengeKind::TlsAlpn01
        && known.kind == challenge.kind
        && known.name == challenge.name
        && known.token != challenge.token
}

impl Announce for Everywhere {
    fn present<'a>(&'a self, challenge: &'a Challenge) -> BoxFuture<'a, Result<(), AnnounceError>> {
        Box::pin(async move {
            let left = self.left_behind(challenge);
            let challenge = self.outlast(challenge, &left);
            self.board.present(&challenge);
            let left = left.into_iter().map(|left| left.token);
            let mut change: Vec<_> = left.map(Change::RemoveChallenge).collect();
            change.push(Change::PutChallenge(challenge.clone()));
            let storing = async {
                let stored = self.store.apply(&self.resolver, change).await;
                stored.map_err(|error| error.to_string())
            };
            let telling = async {
                match &self.members {
                    Some(members) => Some(members.present(&challenge).await),
                    None => None,
                }
            };
            // Either way leads the others to it.
            match join(storing, telling).await {
                (Ok(()), _) | (_, Some(Ok(()))) => Ok(()),
                (Err(error), _) => Err(AnnounceError {
                    name: challenge.name,
                    message: error,
                }),
            }
        })
    }

    fn withdraw<'a>(&'a self, challenge: &'a Challenge) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.board.withdraw(&challenge.token);
            let change = vec![Change::RemoveChallenge(challenge.token.clone())];
            let storing = self.store.apply(&self.resolver, change);
            let telling = async {
                if let Some(members) = &self.members {
                    members.withdraw(challenge).await;
                }
            };
            // One that stays behind ends by itself.
            let _ = join(storing, telling).await;
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::acme::store::memory::{Place, Steps};

    fn challenge(kind: ChallengeKind, token: &str, expires: SystemTime) -> Challenge {
        Challenge {
            kind,
            name: "a.example".to_owned(),
            token: token.to_owned(),
            key_authorization: format!("{token}.print"),
            expires,
        }
    }

    /// Presents a challenge where an earlier one, of a proxy with a fast clock, was left, and
    /// returns those in the store afterwards.
    async fn presented(kind: ChallengeKind) -> (Arc<Board>, Vec<Challenge>) {
        presented_after(kind, SystemTime::now() + Duration::from_secs(90)).await
    }

    async fn presented_after(kind: ChallengeKind, end: SystemTime) -> (Arc<Board>, Vec<Challenge>) {
        let now = SystemTime::now();
        let place = Arc::new(Place::default());
        let left = challenge(kind, "left", end);
        place.change("le", vec![Change::PutChallenge(left.clone())]);
        let board = Arc::new(Board::default());
        board.replace("store", [left]);
        let everywhere = Everywhere {
            resolver: "le".into(),
            board: Arc::clone(&board),
            store: place.handle(&Steps::until(0)),
            members: None,
        };
        let new = challenge(kind, "new", now + Duration::from_secs(60));
        everywhere.present(&new).await.unwrap();
        (board, place.contents().resolvers["le"].challenges.clone())
    }

    #[tokio::test]
    async fn a_handshake_is_answered_for_the_last_order_whatever_the_clocks_say() {
        let (board, stored) = presented(ChallengeKind::TlsAlpn01).await;
        let known = board.peek(ChallengeKind::TlsAlpn01, "a.example").unwrap();
        assert_eq!(known.token, "new");
        let [stored] = stored.as_slice() else {
            panic!("{stored:?}");
        };
        assert_eq!(*stored, *known);
    }

    #[tokio::test]
    async fn a_challenge_that_never_ends_stops_nobody() {
        let last = Duration::from_secs(i64::MAX.unsigned_abs());
        let end = SystemTime::UNIX_EPOCH.checked_add(last).unwrap();
        assert_eq!(end.checked_add(TICK), None);
        let (_, stored) = presented_after(ChallengeKind::TlsAlpn01, end).await;
        let tokens: Vec<_> = stored.iter().map(|it| it.token.as_str()).collect();
        assert_eq!(tokens, ["new"]);
    }

    #[tokio::test]
    async fn tokens_of_earlier_orders_are_answered_as_before() {
        let (board, stored) = presented(ChallengeKind::Http01).await;
        assert_eq!(stored.len(), 2);
        for token in ["left", "new"] {
            assert!(board.peek(ChallengeKind::Http01, token).is_some());
        }
    }
}
