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
                .find(|challenge| challenge.kind == kind && challenge.key() == key)
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
