//! Challenges that stand in a store, where every proxy that uses it finds them.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::{Board, Challenge, ChallengeKind, Lookup};
use crate::acme::store::{Observed, Store};

/// A store, as a source of challenges.
#[derive(Clone, Debug)]
pub struct Stored(Arc<dyn Store>);

impl Stored {
    /// The challenges of this store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self(store)
    }

    /// Puts what is observed of the store on the board, for as long as the store lives.
    pub async fn follow(self, board: Arc<Board>) {
        let mut observed = self.0.observed();
        loop {
            let now = Arc::clone(&observed.borrow_and_update());
            board.replace(self.0.place(), challenges(&now).cloned());
            if observed.changed().await.is_err() {
                return;
            }
        }
    }
}

impl Lookup for Stored {
    fn find<'a>(&'a self, kind: ChallengeKind, key: &'a str) -> BoxFuture<'a, Option<Challenge>> {
        async move {
            // If it can't be read, what was read last may still have it.
            let _ = self.0.refresh().await;
            let observed = Arc::clone(&self.0.observed().borrow());
            challenges(&observed)
                .filter(|challenge| challenge.kind == kind && challenge.key() == key)
                .max_by_key(|challenge| challenge.expires)
                .cloned()
        }
        .boxed()
    }
}

fn challenges(observed: &Observed) -> impl Iterator<Item = &Challenge> {
    observed
        .contents
        .iter()
        .flat_map(|contents| contents.resolvers.values())
        .flat_map(|resolver| &resolver.challenges)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use tokio::sync::watch;

    use super::*;
    use crate::acme::store::{Change, Contents, Lease, ResolverContents, StoreError};

    /// A store that others have written to, which shows only when it is read again.
    #[derive(Debug)]
    struct Written {
        observed: watch::Sender<Arc<Observed>>,
        next: Option<Challenge>,
    }

    impl Store for Written {
        fn place(&self) -> &str {
            "written"
        }

        fn observed(&self) -> watch::Receiver<Arc<Observed>> {
            self.observed.subscribe()
        }

        fn refresh(&self) -> BoxFuture<'_, Result<(), StoreError>> {
            self.observed.send_replace(observed(self.next.clone()));
            async { Ok(()) }.boxed()
        }

        fn apply<'a>(
            &'a self,
            _: &'a str,
            _: Vec<Change>,
        ) -> BoxFuture<'a, Result<(), StoreError>> {
            unreachable!("nobody writes here")
        }

        fn lock<'a>(
            &'a self,
            _: &'a str,
            _: Duration,
        ) -> BoxFuture<'a, Result<Option<Box<dyn Lease>>, StoreError>> {
            unreachable!("nobody writes here")
        }
    }

    fn observed(challenge: Option<Challenge>) -> Arc<Observed> {
        let resolver = ResolverContents {
            challenges: challenge.into_iter().collect(),
            ..ResolverContents::default()
        };
        Arc::new(Observed {
            contents: Some(Arc::new(Contents {
                resolvers: [("le".to_owned(), resolver)].into(),
            })),
            at: None,
            trouble: None,
        })
    }

    fn challenge(token: &str) -> Challenge {
        Challenge {
            kind: ChallengeKind::Http01,
            name: "a.example".to_owned(),
            token: token.to_owned(),
            key_authorization: format!("{token}.print"),
            expires: SystemTime::now() + Duration::from_secs(60),
        }
    }

    #[tokio::test]
    async fn what_others_wrote_is_found_by_reading_again() {
        let store = Arc::new(Written {
            observed: watch::Sender::new(observed(None)),
            next: Some(challenge("a")),
        });
        let stored = Stored::new(store.clone());
        let board = Arc::new(Board::default());
        board.also_ask(Arc::new(stored.clone()));
        let kind = ChallengeKind::Http01;
        assert!(board.find(kind, "b").await.is_none());
        assert_eq!(board.find(kind, "a").await.unwrap().token, "a");

        // What is over there is over here, unless a question found it meanwhile.
        let following = tokio::spawn(stored.follow(Arc::clone(&board)));
        store.observed.send_replace(observed(Some(challenge("c"))));
        while board.peek(kind, "c").is_none() {
            tokio::task::yield_now().await;
        }
        store.observed.send_replace(observed(None));
        while board.peek(kind, "c").is_some() {
            tokio::task::yield_now().await;
        }
        following.abort();
    }
}
