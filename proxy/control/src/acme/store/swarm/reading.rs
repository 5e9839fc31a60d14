//! What a list of configs means: pure, from the engine's words to values.
//!
//! Everything in the list is hostile until it is opened. What can't be is named with
//! the reason, is never removed, and never hides an older value that can be opened.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate_shared::docker::ConfigObject;

use super::super::Sealer;
use super::super::object::{Identity, Kind, Object, Unreadable};
use super::lock;

/// A config's name, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Name<'a> {
    /// Kind and hash.
    group: &'a str,
    generation: u32,
}

impl<'a> Name<'a> {
    /// Nothing if it is no value of this store.
    pub(super) fn parse(prefix: &str, name: &'a str) -> Option<Self> {
        let rest = name.strip_prefix(prefix)?.strip_prefix('.')?;
        let (group, generation) = rest.rsplit_once('.')?;
        let (kind, hash) = group.split_once('.')?;
        Kind::parse(kind)?;
        let is_hex = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        };
        if hash.len() != 24 || generation.len() != 8 || !is_hex(hash) || !is_hex(generation) {
            return None;
        }
        let generation = u32::from_str_radix(generation, 16).ok()?;
        Some(Self { group, generation })
    }

    /// What the names of all generations of this value begin with.
    pub(super) fn beginning(&self, prefix: &str) -> String {
        format!("{prefix}.{}.", self.group)
    }

    /// With a prefix of 20, 63 characters at most.
    pub(super) fn of(prefix: &str, identity: &Identity, generation: u32) -> String {
        format!("{prefix}.{}.{generation:08x}", group_name(identity))
    }
}

/// What the names of all generations of a value have in common.
pub(super) fn group_name(identity: &Identity) -> String {
    format!("{}.{}", identity.kind.name(), identity.hash())
}

/// The generations of one value.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// The configs' ids, also of those that can't be opened.
    pub(super) generations: BTreeMap<u32, String>,
    /// The newest that can be opened, and with today's secret or not.
    opened: Option<(u32, Arc<Object>, bool)>,
    /// Whether there is one of another secret.
    has_foreign: bool,
    /// What was known before another secret came.
    kept: Option<Arc<Object>>,
    /// Generations that were opened and are not the newest.
    older: Vec<u32>,
}

impl Group {
    /// The newest generation, whoever made it.
    pub(super) fn newest(&self) -> u32 {
        self.generations.keys().next_back().copied().unwrap_or(0)
    }

    /// The value that counts.
    pub(super) fn object(&self) -> Option<&Object> {
        let opened = self.opened.as_ref().map(|(_, object, _)| object);
        opened.or(self.kept.as_ref()).map(AsRef::as_ref)
    }

    /// The ids of those that count no more; those that can't be opened are not ours to judge.
    pub(super) fn outdated(&self) -> impl Iterator<Item = &String> {
        self.older
            .iter()
            .filter_map(|generation| self.generations.get(generation))
    }

    /// Whether the previous secret sealed what counts.
    pub(super) fn is_sealed_before(&self) -> bool {
        let opened = self.opened.as_ref();
        opened
            .is_some_and(|(generation, _, is_current)| !is_current && *generation == self.newest())
    }

    fn add(&mut self, generation: u32, object: Object, is_current: bool) {
        let newest = (generation, Arc::new(object), is_current);
        match self.opened.replace(newest) {
            Some(before) if before.0 > generation => {
                self.older.push(generation);
                self.opened = Some(before);
            }
            Some((before, _, _)) => self.older.push(before),
            None => {}
        }
    }
}

/// A list of configs, understood.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub(super) groups: BTreeMap<String, Group>,
    /// Configs that carry our label and can't be used, by name.
    pub(super) unreadable: BTreeMap<String, Unreadable>,
}

impl Reading {
    /// Understands `configs`. A value that only another secret opens now is what it was
    /// in `last`: a proxy that still has the secret of yesterday goes on serving.
    pub(super) fn new<'a>(
        prefix: &str,
        configs: impl IntoIterator<Item = &'a ConfigObject>,
        sealer: &dyn Sealer,
        last: &Self,
    ) -> Self {
        let mut reading = Self::default();
        for config in configs {
            if lock::is_lock(prefix, &config.name) {
                continue;
            }
            if let Err(trouble) = reading.take(prefix, config, sealer) {
                reading.unreadable.insert(config.name.clone(), trouble);
            }
        }
        for (name, group) in &mut reading.groups {
            if group.opened.is_none() && group.has_foreign {
                let last = last.groups.get(name);
                group.kept = last.and_then(|last| {
                    let opened = last.opened.as_ref().map(|(_, object, _)| object);
                    opened.or(last.kept.as_ref()).cloned()
                });
            }
        }
        reading
    }

    fn take(
        &mut self,
        prefix: &str,
        config: &ConfigObject,
        sealer: &dyn Sealer,
    ) -> Result<(), Unreadable> {
        let nonsense = |message: &str| Unreadable {
            message: message.to_owned(),
            is_foreign: false,
        };
        let name = Name::parse(prefix, &config.name)
            .ok_or_else(|| nonsense("no value of the store has such a name"))?;
        let group = self.groups.entry(name.group.to_owned()).or_default();
        group.generations.insert(name.generation, config.id.clone());
        let (object, is_current) = Object::open(sealer, &config.name, &config.data)
            .inspect_err(|trouble| group.has_foreign |= trouble.is_foreign)?;
        if group_name(&object.identity()) != name.group {
            return Err(nonsense("it holds another value than its name says"));
        }
        group.add(name.generation, object, is_current);
        Ok(())
    }

    /// The values that count.
    pub(super) fn objects(&self) -> impl Iterator<Item = &Object> {
        self.groups.values().filter_map(Group::object)
    }
}
