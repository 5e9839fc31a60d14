//! Certificates over the mesh, for members that can't reach the store themselves.
//!
//! Members that have a store publish what it holds ([`publish`]), but for accounts: who
//! can't write to the store has no use for them. [`MeshStore`] is a store made of what
//! they say, which can only be read. A member that is cut off goes on with the last that
//! it heard.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, select_all};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::{Fact, Mesh};
use crate::acme::store::json::Document;
use crate::acme::store::{
    Change, Contents, Lease, Observed, ResolverContents, Store, StoreError, StoredCertificate,
};

/// What a member's stores hold, by their places.
const TOPIC: &str = "certificates";

/// Changes within this time are told at once.
const SETTLE: Duration = Duration::from_millis(100);

/// Publishes what stores hold, now and after each change, until it is dropped. A store
/// that was never read is not spoken of.
pub async fn publish(mesh: Arc<dyn Mesh>, stores: Vec<Arc<dyn Store>>) {
    let mut observed: Vec<_> = stores.iter().map(|store| store.observed()).collect();
    let mut told = Bytes::new();
    while !observed.is_empty() {
        let now = observed
            .iter_mut()
            .zip(&stores)
            .filter_map(|(seen, store)| {
                let contents = seen.borrow_and_update().contents.clone();
                contents.map(|contents| (store.place().to_owned(), contents))
            });
        let body = encode(now);
        if body != told {
            mesh.publish(TOPIC, body.clone());
            told = body;
        }
        let changes = observed.iter_mut().map(|seen| seen.changed().boxed());
        if select_all(changes).await.0.is_err() {
            return;
        }
        sleep(SETTLE).await;
    }
}

/// A store that is somewhere else, as members see it.
pub struct MeshStore {
    place: String,
    observed: Arc<watch::Sender<Arc<Observed>>>,
    following: AbortHandle,
}

impl MeshStore {
    /// The store that members call `place`, as all of them do who have the same settings.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn open(mesh: &dyn Mesh, place: &str) -> Arc<Self> {
        let facts = mesh.facts(TOPIC);
        let first = observe(&facts.borrow(), place, None);
        let observed = Arc::new(watch::Sender::new(Arc::new(first)));
        let follow = follow(facts, place.to_owned(), Arc::clone(&observed));
        Arc::new(Self {
            place: place.to_owned(),
            observed,
            following: tokio::spawn(follow).abort_handle(),
        })
    }
}

async fn follow(
    mut facts: watch::Receiver<Arc<Vec<Fact>>>,
    place: String,
    observed: Arc<watch::Sender<Arc<Observed>>>,
) {
    loop {
        let now = Arc::clone(&facts.borrow_and_update());
        let known = Arc::clone(&observed.borrow());
        let seen = observe(&now, &place, known.contents.as_ref());
        if seen.trouble != known.trouble
            && let Some(reason) = &seen.trouble
        {
            warn!(
                store = place,
                reason, "The certificates' store is in trouble"
            );
        }
        observed.send_if_modified(|shown| {
            let is_news = shown.contents != seen.contents || shown.trouble != seen.trouble;
            *shown = Arc::new(seen);
            is_news
        });
        if facts.changed().await.is_err() {
            return;
        }
    }
}

/// What members say about a place. Those that can be reached count; if there is none,
/// the last words of all.
fn observe(facts: &[Fact], place: &str, known: Option<&Arc<Contents>>) -> Observed {
    let said = facts.iter().filter_map(|fact| {
        let contents = decode(&fact.body, place)?;
        Some((fact, contents))
    });
    let (live, away): (Vec<_>, Vec<_>) = said.partition(|(fact, _)| fact.is_live);
    let is_live = !live.is_empty();
    let said = if is_live { live } else { away };
    let at = said.iter().map(|(fact, _)| fact.at).max();
    let trouble = (!is_live).then(|| {
        let age = at.map(|at| Instant::now().saturating_duration_since(at).as_secs());
        match age {
            Some(age) => format!(
                "no member that has the store {place} can be reached; \
                 what is known of it was heard {age} s ago"
            ),
            None => format!("no member that has the store {place} was ever heard"),
        }
    });
    let contents = merge(said.into_iter().map(|(_, contents)| contents));
    let contents = match (contents, known) {
        (Some(new), Some(known)) if new == **known => Some(Arc::clone(known)),
        (Some(new), _) => Some(Arc::new(new)),
        // Whatever went away, a certificate is good until it ends.
        (None, known) => known.cloned(),
    };
    Observed {
        contents,
        at,
        trouble,
    }
}

/// Several views of one store; of two certificates for the same names the newer one.
fn merge(views: impl Iterator<Item = Contents>) -> Option<Contents> {
    let mut merged: Option<Contents> = None;
    for view in views {
        let into = &mut merged.get_or_insert_default().resolvers;
        for (resolver, part) in view.resolvers {
            join(into.entry(resolver).or_default(), part);
        }
    }
    merged
}

fn join(into: &mut ResolverContents, part: ResolverContents) {
    for certificate in part.certificates {
        let same = |known: &&mut StoredCertificate| known.domain == certificate.domain;
        match into.certificates.iter_mut().find(same) {
            Some(known) if *known == certificate => {}
            Some(known) if begins(known) >= begins(&certificate) => {}
            Some(known) => *known = certificate,
            None => into.certificates.push(certificate),
        }
    }
    let now = SystemTime::now();
    for challenge in part.challenges {
        let is_new = into
            .challenges
            .iter()
            .all(|known| known.token != challenge.token);
        if is_new && challenge.expires > now {
            into.challenges.push(challenge);
        }
    }
}

/// When a certificate becomes valid, in seconds since 1970; nothing if it can't be read.
fn begins(certificate: &StoredCertificate) -> Option<i64> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(&certificate.chain).ok()?;
    let leaf = pem.parse_x509().ok()?;
    Some(leaf.validity().not_before.timestamp())
}

/// A document for each place.
fn encode(stores: impl Iterator<Item = (String, Arc<Contents>)>) -> Bytes {
    let stores: BTreeMap<String, Document> = stores
        .map(|(place, contents)| {
            let mut contents = Contents::clone(&contents);
            for part in contents.resolvers.values_mut() {
                part.account = None;
            }
            (place, Document::from(&contents))
        })
        .collect();
    if stores.is_empty() {
        return Bytes::new();
    }
    serde_json::to_vec(&stores).unwrap_or_default().into()
}

fn decode(body: &[u8], place: &str) -> Option<Contents> {
    let mut stores: BTreeMap<String, Value> = serde_json::from_slice(body).ok()?;
    let text = serde_json::to_vec(&stores.remove(place)?).ok()?;
    let mut contents = Document::parse(&text).ok()?.meaning().contents;
    for part in contents.resolvers.values_mut() {
        part.account = None;
    }
    Some(contents)
}

impl Store for MeshStore {
    fn place(&self) -> &str {
        &self.place
    }

    fn observed(&self) -> watch::Receiver<Arc<Observed>> {
        self.observed.subscribe()
    }

    /// Members say what changes as soon as they know it.
    fn refresh(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        async { Ok(()) }.boxed()
    }

    fn apply<'a>(
        &'a self,
        _resolver: &'a str,
        _changes: Vec<Change>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let place = self.place.clone();
        async { Err(StoreError::ReadOnly { place }) }.boxed()
    }

    /// Nothing is ordered by who could not keep it.
    fn lock<'a>(
        &'a self,
        _name: &'a str,
        _patience: Duration,
    ) -> BoxFuture<'a, Result<Option<Box<dyn Lease>>, StoreError>> {
        async { Ok(None) }.boxed()
    }
}

impl fmt::Debug for MeshStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshStore")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl Drop for MeshStore {
    fn drop(&mut self) {
        self.following.abort();
    }
}

#[cfg(test)]
mod tests;
