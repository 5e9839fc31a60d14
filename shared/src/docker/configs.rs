//! Configs of a Swarm as a place to keep things in: the only part that writes.
//!
//! A config's name is unique in the Swarm and its data never change; its labels do,
//! by whoever knows its version. The managers agree on every step before they answer.
//! Only a manager's engine can be asked. [`Configs`] is apart from [`super::Engine`]
//! so that who only reads can be given only that.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;

use futures_util::Stream;

use super::{Answer, EngineError};

/// The most bytes that every engine's configs can have; newer ones take more.
pub const LARGEST_CONFIG: usize = 500 << 10;

/// The longest name of a config.
pub const LONGEST_CONFIG_NAME: usize = 64;

/// Labels by name.
pub type Labels = BTreeMap<String, String>;

/// One config.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigObject {
    /// The Swarm's own name of it; never used twice.
    pub id: String,
    /// Rises with every change.
    pub version: u64,
    /// Unique among those that exist.
    pub name: String,
    /// May change.
    pub labels: Labels,
    /// Never change.
    pub data: Vec<u8>,
}

/// Names of configs that were made, changed or removed; ends after the first error.
pub type ConfigChanges = Pin<Box<dyn Stream<Item = Result<String, EngineError>> + Send>>;

/// What can be done with configs.
pub trait Configs: fmt::Debug + Send + Sync {
    /// Those that have this label with this value, sorted by name.
    fn configs<'a>(&'a self, label: &'a str, value: &'a str) -> Answer<'a, Vec<ConfigObject>>;

    /// Those whose names begin so, sorted by name.
    fn configs_named<'a>(&'a self, beginning: &'a str) -> Answer<'a, Vec<ConfigObject>>;

    /// The one of this name.
    fn config<'a>(&'a self, name: &'a str) -> Answer<'a, Option<ConfigObject>>;

    /// Makes one. Whether it was made: it is not if there is one of this name.
    fn create_config<'a>(
        &'a self,
        name: &'a str,
        labels: &'a Labels,
        data: &'a [u8],
    ) -> Answer<'a, bool>;

    /// Gives one other labels. Whether it was done: it is not if the config has
    /// changed since it was read, or is gone.
    fn label_config<'a>(&'a self, config: &'a ConfigObject, labels: &'a Labels)
    -> Answer<'a, bool>;

    /// Removes one, unless it is gone.
    fn remove_config<'a>(&'a self, id: &'a str) -> Answer<'a, ()>;

    /// What happens to configs from now on. Subscribes when first polled.
    fn config_changes(&self) -> ConfigChanges;
}

impl EngineError {
    /// Whether the engine said that it is no manager of a Swarm, or not one any more.
    pub fn is_no_manager(&self) -> bool {
        matches!(self, Self::Refused { status: 503 | 406, message }
            if message.contains("not a swarm manager"))
    }
}
