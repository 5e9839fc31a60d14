//! Challenges, made answerable wherever the authority may look.
//!
//! This process answers at once. The others find them in the store that they share,
//! and hear of them from each other where there is a cluster.

use std::sync::Arc;

use futures_util::future::{BoxFuture, join};

use crate::acme::authority::{Announce, AnnounceError};
use crate::acme::challenge::{Board, Challenge, ChallengeKind};
use crate::acme::store::{Change, Store};

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
    /// Takes away what a proxy that died left of an earlier order for the same name: a
    /// handshake can be answered for one order only.
    fn left_behind(&self, challenge: &Challenge) -> Vec<Change> {
        let observed = Arc::clone(&self.store.observed().borrow());
        let contents = observed.contents.as_ref();
        let own = contents.and_then(|contents| contents.resolvers.get(&*self.resolver));
        let known = own.into_iter().flat_map(|own| &own.challenges);
        known
            .filter(|known| {
                challenge.kind == ChallengeKind::TlsAlpn01 && known.kind == challenge.kind
            })
            .filter(|known| known.name == challenge.name && known.token != challenge.token)
            .map(|known| Change::RemoveChallenge(known.token.clone()))
            .collect()
    }
}

impl Announce for Everywhere {
    fn present<'a>(&'a self, challenge: &'a Challenge) -> BoxFuture<'a, Result<(), AnnounceError>> {
        Box::pin(async move {
            self.board.present(challenge);
            let mut change = self.left_behind(challenge);
            change.push(Change::PutChallenge(challenge.clone()));
            let storing = async {
                let stored = self.store.apply(&self.resolver, change).await;
                stored.map_err(|error| error.to_string())
            };
            let telling = async {
                match &self.members {
                    Some(members) => Some(members.present(challenge).await),
                    None => None,
                }
            };
            // Either way leads the others to it.
            match join(storing, telling).await {
                (Ok(()), _) | (_, Some(Ok(()))) => Ok(()),
                (Err(error), _) => Err(AnnounceError {
                    name: challenge.name.clone(),
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
