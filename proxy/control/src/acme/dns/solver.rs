//! What all providers have in common: the record's name, one after the other where a
//! provider wants that, the wait until the record is seen.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use hickory_proto::rr::Name;
use tokio::time::{Instant, sleep_until};
use tracing::debug;

use super::lookup::Lookup;
use super::propagation::Checks;
use super::{DnsError, DnsSolver, Proof};

/// How many records' names are remembered.
const MOST_PLACED: usize = 4096;

/// How long records take, by what a provider's variables say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    /// Longest wait until a record is seen.
    pub(super) timeout: Duration,
    /// Between two looks.
    pub(super) interval: Duration,
}

/// One record of one challenge.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// The identifier whose control is shown.
    pub(super) identifier: String,
    /// The record's name, aliases followed.
    pub(super) name: Name,
    /// What it proves.
    pub(super) proof: Proof,
}

/// Who keeps zones.
pub(super) trait Provider: fmt::Debug + Send + Sync {
    /// lego's code of it.
    fn code(&self) -> &'static str;

    /// How long its records take.
    fn pace(&self) -> Pace;

    /// Adds the record beside others of its name.
    fn add(&self, record: &Record) -> impl Future<Output = Result<(), DnsError>> + Send;

    /// Takes the record away, and no other. None there is fine.
    fn remove(&self, record: &Record) -> impl Future<Output = Result<(), DnsError>> + Send;
}

/// The one solver there is, over any provider.
#[derive(Debug)]
pub(super) struct Solver<P> {
    pub(super) provider: P,
    pub(super) lookup: Lookup,
    pub(super) checks: Checks,
    /// Whether aliases of the challenge's name are followed.
    pub(super) follows: bool,
    /// The pause between two records, for those who asked for one.
    pub(super) sequence: Option<Duration>,
    /// When the next record may be added.
    pub(super) next: tokio::sync::Mutex<Option<Instant>>,
    /// Under which names the records are that we added, by identifier and value.
    pub(super) placed: Mutex<HashMap<(String, String), Name>>,
}

impl<P: Provider> Solver<P> {
    async fn add(&self, identifier: &str, proof: &Proof) -> Result<(), DnsError> {
        let name = self.target(identifier).await?;
        let record = record(identifier, &name, proof);
        self.turn().await;
        self.remember(&record);
        self.provider.add(&record).await?;
        debug!(provider = self.provider.code(), %name, "A challenge's record is added");
        let pace = self.provider.pace();
        let seen = self.checks.wait(&self.lookup, &name, proof.value(), pace);
        seen.await
    }

    async fn remove(&self, identifier: &str, proof: &Proof) -> Result<(), DnsError> {
        let name = match self.known(identifier, proof) {
            Some(name) => name,
            None => self.target(identifier).await?,
        };
        let record = record(identifier, &name, proof);
        self.provider.remove(&record).await?;
        self.forget(identifier, proof);
        debug!(provider = self.provider.code(), %name, "A challenge's record is removed");
        Ok(())
    }

    /// Where the record belongs.
    async fn target(&self, identifier: &str) -> Result<Name, DnsError> {
        let name = challenge_name(identifier)?;
        if self.follows {
            self.lookup.follow(&name).await
        } else {
            Ok(name)
        }
    }

    /// Waits until the pause after the last record is over.
    async fn turn(&self) {
        let Some(pause) = self.sequence else {
            return;
        };
        let mut next = self.next.lock().await;
        if let Some(at) = *next {
            sleep_until(at).await;
        }
        *next = Some(Instant::now() + pause);
    }

    fn remember(&self, record: &Record) {
        let key = key(&record.identifier, &record.proof);
        let mut placed = self.placed.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever never cleans up must not fill the memory: what is forgotten is found again.
        if placed.len() >= MOST_PLACED {
            placed.clear();
        }
        placed.insert(key, record.name.clone());
    }

    fn known(&self, identifier: &str, proof: &Proof) -> Option<Name> {
        let placed = self.placed.lock().unwrap_or_else(PoisonError::into_inner);
        placed.get(&key(identifier, proof)).cloned()
    }

    fn forget(&self, identifier: &str, proof: &Proof) {
        let mut placed = self.placed.lock().unwrap_or_else(PoisonError::into_inner);
        placed.remove(&key(identifier, proof));
    }
}

impl<P: Provider> DnsSolver for Solver<P> {
    fn present<'a>(
        &'a self,
        name: &'a str,
        proof: &'a Proof,
    ) -> BoxFuture<'a, Result<(), DnsError>> {
        Box::pin(self.add(name, proof))
    }

    fn cleanup<'a>(
        &'a self,
        name: &'a str,
        proof: &'a Proof,
    ) -> BoxFuture<'a, Result<(), DnsError>> {
        Box::pin(self.remove(name, proof))
    }
}

fn key(identifier: &str, proof: &Proof) -> (String, String) {
    (identifier.to_owned(), proof.value().to_owned())
}

fn record(identifier: &str, name: &Name, proof: &Proof) -> Record {
    Record {
        identifier: identifier.to_owned(),
        name: name.clone(),
        proof: proof.clone(),
    }
}

/// `_acme-challenge.NAME.` (RFC 8555 §8.4).
pub(super) fn challenge_name(identifier: &str) -> Result<Name, DnsError> {
    let plain = identifier.strip_prefix("*.").unwrap_or(identifier);
    let text = format!("_acme-challenge.{}.", plain.trim_end_matches('.'));
    let unusable = |why: String| DnsError::Lookup(format!("{identifier} is no name: {why}"));
    if plain.is_empty() || !plain.is_ascii() {
        return Err(unusable(
            "only ASCII is, other scripts as xn--..".to_owned(),
        ));
    }
    Name::from_ascii(text).map_err(|error| unusable(error.to_string()))
}

/// The text of a name as APIs want it: without the last dot.
pub(super) fn plain(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_owned()
}

/// The part of `name` below `zone`.
pub(super) fn below(name: &Name, zone: &Name) -> Result<String, DnsError> {
    let outside = || DnsError::Lookup(format!("{name} is not below {zone}"));
    let labels = usize::from(name.num_labels())
        .checked_sub(usize::from(zone.num_labels()))
        .filter(|labels| *labels > 0 && zone.zone_of(name))
        .ok_or_else(outside)?;
    let text = plain(name);
    let parts: Vec<&str> = text.split('.').take(labels).collect();
    Ok(parts.join("."))
}

#[cfg(test)]
mod tests;
