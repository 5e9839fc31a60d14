//! What the keys of a store mean: pure, from etcd's words to values.
//!
//! Every value is hostile until it is opened; what can't be is named with the reason
//! and left alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::super::Sealer;
use super::super::object::{Identity, Object, Unreadable};
use super::wire::{KeyValue, Long};

/// The key of a value.
pub(super) fn key(prefix: &str, identity: &Identity) -> String {
    let resolver = utf8_percent_encode(&identity.resolver, NON_ALPHANUMERIC);
    let kind = identity.kind.name();
    format!("{prefix}{resolver}/{kind}/{}", identity.hash())
}

/// A value and when it was written.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) object: Arc<Object>,
    pub(super) revision: Long,
    pub(super) is_current: bool,
}

/// All keys, understood.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// etcd's revision that it is of.
    pub(super) revision: i64,
    pub(super) entries: BTreeMap<String, Entry>,
    /// Keys that can't be used.
    pub(super) unreadable: BTreeMap<String, Unreadable>,
}

impl Reading {
    /// Understands `found`. A value that only another secret opens now is what it was
    /// in `last`: a proxy that still has the secret of yesterday goes on serving.
    pub(super) fn new(
        prefix: &str,
        revision: i64,
        found: &[KeyValue],
        sealer: &dyn Sealer,
        last: &Self,
    ) -> Self {
        let mut reading = Self {
            revision,
            ..Self::default()
        };
        for pair in found {
            let key = String::from_utf8_lossy(&pair.key.0).into_owned();
            match take(prefix, &key, pair, sealer) {
                Ok(entry) => {
                    reading.entries.insert(key, entry);
                }
                Err(trouble) => {
                    if let Some(kept) = last.entries.get(&key).filter(|_| trouble.is_foreign) {
                        // Not ours to seal anew.
                        let kept = Entry {
                            is_current: true,
                            ..kept.clone()
                        };
                        reading.entries.insert(key.clone(), kept);
                    }
                    reading.unreadable.insert(key, trouble);
                }
            }
        }
        reading
    }

    /// The values.
    pub(super) fn objects(&self) -> impl Iterator<Item = &Object> {
        self.entries.values().map(|entry| entry.object.as_ref())
    }
}

fn take(
    prefix: &str,
    place: &str,
    pair: &KeyValue,
    sealer: &dyn Sealer,
) -> Result<Entry, Unreadable> {
    let (object, is_current) = Object::open(sealer, place, &pair.value.0)?;
    if key(prefix, &object.identity()) != place {
        return Err(Unreadable {
            message: "it holds another value than its key says".to_owned(),
            is_foreign: false,
        });
    }
    Ok(Entry {
        object: Arc::new(object),
        revision: pair.mod_revision,
        is_current,
    })
}
