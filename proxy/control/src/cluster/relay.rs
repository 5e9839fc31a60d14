//! What a manager's engine says, for proxies that have none to ask.
//!
//! A proxy whose engine answers publishes each change of the Swarm as it was read,
//! before labels are interpreted. One whose engine does not takes the newest of what
//! the others say. What they say stays known when they are gone, and says since when.
//!
//! A word is a byte for its form, one that says whether the engine still answered, the
//! Swarm's count of changes, and the Swarm as JSON. JSON survives proxies of different
//! versions; fields that one of them does not know are left out or have their default.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes};
use tidegate_shared::docker::watch::Swarm;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{error, warn};

use super::{Fact, Mesh};
use crate::provider::relay::{Own, Relay, Relayed};

/// The topic.
const TOPIC: &str = "provider/swarm";

/// The first byte of a word.
const FORMAT: u8 = 1;

/// What a provider is given to speak with other proxies, and what carries it: a future
/// that ends when the provider does.
pub fn swarm(mesh: Arc<dyn Mesh>) -> (Relay, impl Future<Output = ()> + Send) {
    let (own, to_tell) = watch::channel(Own::default());
    let (told, theirs) = watch::channel(None);
    (Relay { own, theirs }, carry(mesh, to_tell, told))
}

async fn carry(
    mesh: Arc<dyn Mesh>,
    mut own: watch::Receiver<Own>,
    theirs: watch::Sender<Option<Relayed>>,
) {
    let mut facts = mesh.facts(TOPIC);
    let mut reader = Reader::default();
    let mut index = 0;
    loop {
        let is_needed = !own.borrow().is_current;
        let read = is_needed.then(|| {
            let facts = Arc::clone(&facts.borrow_and_update());
            reader.read(&facts, Instant::now())
        });
        // What was true once is not kept for later.
        theirs.send_replace(read.flatten());
        tokio::select! {
            changed = own.changed() => {
                if changed.is_err() {
                    return;
                }
                let own = own.borrow_and_update().clone();
                if let Some(body) = encode(&own, &mut index) {
                    mesh.publish(TOPIC, body);
                }
            }
            changed = facts.changed() => {
                if changed.is_err() {
                    // Without a mesh the provider goes on with what it has.
                    while own.changed().await.is_ok() {}
                    return;
                }
            }
        }
    }
}

/// The newest of what others say.
#[derive(Debug, Default)]
struct Reader {
    /// The word that was last believed: whose it was, its version, and the Swarm.
    believed: Option<(Arc<str>, u64, Arc<Swarm>)>,
    /// Since when members have said that their engines are silent.
    silent: HashMap<Arc<str>, Instant>,
    /// A word that made no sense, complained about once.
    refused: Option<(Arc<str>, u64)>,
}

/// A word whose Swarm is not looked at yet.
struct Word<'a> {
    fact: &'a Fact,
    /// Whether its member's engine answered when it was said.
    answers: bool,
    index: u64,
    json: &'a [u8],
}

impl Word<'_> {
    fn is_current(&self) -> bool {
        self.answers && self.fact.is_live
    }
}

impl Reader {
    fn read(&mut self, facts: &[Fact], now: Instant) -> Option<Relayed> {
        let mut words: Vec<Word<'_>> = facts.iter().filter_map(decode).collect();
        let silent = words.iter().filter(|word| !word.answers);
        let silent = silent.map(|word| {
            let since = self.silent.get(&word.fact.member);
            (Arc::clone(&word.fact.member), since.copied().unwrap_or(now))
        });
        self.silent = silent.collect();
        let believed = self
            .believed
            .as_ref()
            .map(|(member, ..)| Arc::clone(member));
        // Of equals the one that was believed before stays, so as not to go to and fro.
        words.sort_by_key(|word| {
            let is_believed = Some(&word.fact.member) == believed.as_ref();
            let at = (!word.is_current()).then(|| self.last_true(word));
            (word.is_current(), at, word.index, is_believed)
        });
        words.iter().rev().find_map(|word| self.believe(word))
    }

    /// When a word that is not current was so last.
    fn last_true(&self, word: &Word<'_>) -> Instant {
        let silent = self.silent.get(&word.fact.member).copied();
        silent.map_or(word.fact.at, |silent| silent.min(word.fact.at))
    }

    fn believe(&mut self, word: &Word<'_>) -> Option<Relayed> {
        let fact = word.fact;
        let known = self.believed.as_ref();
        let known =
            known.filter(|(member, version, _)| *member == fact.member && *version == fact.version);
        let swarm = match known {
            Some((_, _, swarm)) => Arc::clone(swarm),
            None => self.parse(word)?,
        };
        self.believed = Some((Arc::clone(&fact.member), fact.version, Arc::clone(&swarm)));
        Some(Relayed {
            member: Arc::clone(&fact.member),
            swarm,
            is_current: word.is_current(),
            at: self.last_true(word),
        })
    }

    fn parse(&mut self, word: &Word<'_>) -> Option<Arc<Swarm>> {
        let error = match serde_json::from_slice::<Swarm>(word.json) {
            Ok(mut swarm) => {
                swarm.sort();
                return Some(Arc::new(swarm));
            }
            Err(error) => error,
        };
        let refused = Some((Arc::clone(&word.fact.member), word.fact.version));
        if self.refused != refused {
            warn!(member = %word.fact.member, %error, "Another proxy's view of the Swarm makes no sense");
            self.refused = refused;
        }
        None
    }
}

/// What is said of the own engine; nothing before its first answer. `index` never goes
/// back: a removal must not look older than what it removes from.
fn encode(own: &Own, index: &mut u64) -> Option<Bytes> {
    let swarm = own.swarm.as_ref()?;
    *index = swarm.index().max(*index);
    let mut body = Vec::new();
    body.put_u8(FORMAT);
    body.put_u8(own.is_current.into());
    body.put_u64(*index);
    if let Err(error) = serde_json::to_writer(&mut body, &**swarm) {
        error!(%error, "The Swarm can't be told to other proxies");
        return None;
    }
    Some(body.into())
}

fn decode(fact: &Fact) -> Option<Word<'_>> {
    let (&[FORMAT, answers], rest) = fact.body.split_first_chunk::<2>()? else {
        return None;
    };
    let (index, json) = rest.split_first_chunk::<8>()?;
    Some(Word {
        fact,
        answers: answers == 1,
        index: u64::from_be_bytes(*index),
        json,
    })
}

#[cfg(test)]
mod tests;
