//! A store that this member may be unable to reach, with the members' word for it
//! meanwhile: a Swarm's worker has no manager to ask, and still serves.
//!
//! Reading turns to the other members while the store itself is in trouble. Changes and
//! locks are the store's own business: nothing is ordered by who could not keep it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::acme::store::{Change, Lease, Observed, Store, StoreError};

/// A store, and the members' view of the same place.
pub struct Fallback {
    views: Arc<Views>,
    following: AbortHandle,
}

struct Views {
    own: Arc<dyn Store>,
    members: Arc<dyn Store>,
    shown: watch::Sender<Arc<Observed>>,
}

impl Fallback {
    /// Reads `own`, or what `members` say of it while it can't be read.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn open(own: Arc<dyn Store>, members: Arc<dyn Store>) -> Arc<Self> {
        let first = choose(&own.observed().borrow(), &members.observed().borrow());
        let views = Arc::new(Views {
            own,
            members,
            shown: watch::Sender::new(first),
        });
        let following = tokio::spawn(follow(Arc::clone(&views)));
        Arc::new(Self {
            views,
            following: following.abort_handle(),
        })
    }
}

async fn follow(views: Arc<Views>) {
    let (mut ours, mut theirs) = (views.own.observed(), views.members.observed());
    loop {
        ours.mark_unchanged();
        theirs.mark_unchanged();
        views.show();
        let changed = tokio::select! {
            changed = ours.changed() => changed,
            changed = theirs.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

impl Views {
    /// Shows what is true now. Under the lock, so that nobody shows what was true before.
    fn show(&self) {
        self.shown.send_modify(|shown| {
            let (own, members) = (self.own.observed(), self.members.observed());
            *shown = choose(&own.borrow(), &members.borrow());
        });
    }
}

/// Our own view while it is good, else the members' if that is; of two that are not, the
/// one that was known to be true last.
fn choose(own: &Arc<Observed>, members: &Arc<Observed>) -> Arc<Observed> {
    let is_good = |it: &Observed| it.contents.is_some() && it.trouble.is_none();
    if is_good(own) || members.contents.is_none() {
        return Arc::clone(own);
    }
    if is_good(members) {
        return Arc::clone(members);
    }
    let newer = if own.contents.is_some() && own.at >= members.at {
        own
    } else {
        members
    };
    let reasons = [own, members].map(|it| it.trouble.clone());
    let trouble = reasons.into_iter().flatten().collect::<Vec<_>>().join("; ");
    Arc::new(Observed {
        trouble: Some(trouble).filter(|trouble| !trouble.is_empty()),
        ..Observed::clone(newer)
    })
}

impl Store for Fallback {
    fn place(&self) -> &str {
        self.views.own.place()
    }

    fn observed(&self) -> watch::Receiver<Arc<Observed>> {
        self.views.shown.subscribe()
    }

    fn refresh(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async {
            let read = self.views.own.refresh().await;
            // What was read is to be seen when this returns.
            self.views.show();
            read
        })
    }

    fn apply<'a>(
        &'a self,
        resolver: &'a str,
        changes: Vec<Change>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let applied = self.views.own.apply(resolver, changes).await;
            self.views.show();
            applied
        })
    }

    fn lock<'a>(
        &'a self,
        name: &'a str,
        patience: Duration,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Lease>>, StoreError>> {
        self.views.own.lock(name, patience)
    }
}

impl fmt::Debug for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fallback")
            .field("own", &self.views.own)
            .finish_non_exhaustive()
    }
}

impl Drop for Fallback {
    fn drop(&mut self) {
        self.following.abort();
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::acme::store::Contents;

    fn observed(resolver: Option<&str>, at: Option<Instant>, trouble: bool) -> Arc<Observed> {
        let contents = resolver.map(|name| {
            let mut contents = Contents::default();
            contents
                .resolvers
                .insert(name.to_owned(), Default::default());
            Arc::new(contents)
        });
        Arc::new(Observed {
            contents,
            at,
            trouble: trouble.then(|| "away".to_owned()),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn the_members_are_believed_while_the_store_is_away() {
        let old = Some(Instant::now());
        let new = old.map(|at| at + Duration::from_secs(9));
        type View = (Option<&'static str>, Option<Instant>, bool);
        let cases: [(View, View, Option<&str>, Option<&str>); 6] = [
            (
                (Some("own"), old, false),
                (Some("them"), new, false),
                Some("own"),
                None,
            ),
            (
                (Some("own"), new, true),
                (Some("them"), old, false),
                Some("them"),
                None,
            ),
            (
                (None, None, true),
                (Some("them"), old, false),
                Some("them"),
                None,
            ),
            (
                (Some("own"), old, true),
                (None, None, true),
                Some("own"),
                Some("away"),
            ),
            (
                (Some("own"), new, true),
                (Some("them"), old, true),
                Some("own"),
                Some("away; away"),
            ),
            (
                (None, None, false),
                (Some("them"), old, true),
                Some("them"),
                Some("away"),
            ),
        ];
        for (own, members, expected, trouble) in cases {
            let view = |it: View| observed(it.0, it.1, it.2);
            let chosen = choose(&view(own), &view(members));
            let contents = chosen.contents.as_ref().unwrap();
            assert_eq!(
                contents.resolvers.keys().next().map(String::as_str),
                expected
            );
            assert_eq!(chosen.trouble.as_deref(), trouble);
        }
    }
}
