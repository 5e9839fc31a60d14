//! Where the proxies are: a list, DNS, the Swarm, and what receivers say of themselves.
//!
//! Each source publishes what it sees by itself; `roster` makes one [`Roster`] of
//! all, in which every node says who named it and how long ago. A source that
//! fails keeps its last word. Nothing here knows of IPVS.

mod address;
mod collector;
mod dns;
pub mod heartbeat;
mod roster;
mod swarm;

pub use collector::run;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Instant;

/// Who says that there is a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// The configured list.
    Static,
    /// A name's addresses.
    Dns,
    /// The Swarm.
    Swarm,
    /// The node itself.
    Heartbeat,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Static => "the list of nodes",
            Self::Dns => "DNS",
            Self::Swarm => "the Swarm",
            Self::Heartbeat => "heartbeats",
        })
    }
}

/// What is to become of a node's share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stance {
    /// It takes new connections.
    #[default]
    Ready,
    /// It wants no new ones, and keeps those it has.
    Draining,
    /// It is said to be down: a hint, checks decide.
    Down,
}

/// What one source says of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// What to do with it.
    pub stance: Stance,
    /// What it is called.
    pub name: Option<String>,
    /// Its share compared with the others', if the source knows.
    pub weight: Option<u32>,
    /// When that was last confirmed.
    pub seen: Instant,
}

/// A node, with what every source says of it. There is at least one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// By source.
    pub sightings: BTreeMap<Origin, Sighting>,
}

/// How a source fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceState {
    /// When it last had a whole answer. Nothing: not yet.
    pub answered: Option<Instant>,
    /// Why it has none now.
    pub error: Option<String>,
}

/// All nodes that any source names, by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// The nodes.
    pub nodes: BTreeMap<IpAddr, Node>,
    /// The sources that are used.
    pub sources: BTreeMap<Origin, SourceState>,
}

impl Node {
    /// What most cautious source asks for: draining wins over ready; down is a
    /// hint only and counts for what `Ready` does not say otherwise.
    pub fn stance(&self) -> Stance {
        let stances = self.sightings.values().map(|sighting| sighting.stance);
        stances.max().unwrap_or_default()
    }

    /// What it is called, by the source that knows best.
    pub fn name(&self) -> Option<&str> {
        let names = self.sightings.values().rev();
        names.into_iter().find_map(|it| it.name.as_deref())
    }

    /// Its share, by the source that knows best.
    pub fn weight(&self) -> Option<u32> {
        let weights = self.sightings.values().rev();
        weights.into_iter().find_map(|it| it.weight)
    }
}

impl Roster {
    /// Has every source that is used answered once? Before that the list is
    /// too short for anything to be removed on its word; so is the list that is
    /// empty because no source was started yet.
    pub fn is_complete(&self) -> bool {
        let mut sources = self.sources.values();
        !self.sources.is_empty() && sources.all(|it| it.answered.is_some())
    }
}
