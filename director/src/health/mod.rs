//! Whether nodes can be used, found out through the real path.
//!
//! Every node is asked in two ways: through a private virtual server that leads
//! the virtual address to that very node (a marked socket), and at its own
//! address. The two together tell a dead node from one that lost the virtual
//! address. States, counts and the quorum are pure (`track`, `judge`, `hold`,
//! `board`); [`probe`] asks, `path` says from where, and [`run`] joins them.
//! Nothing here touches the kernel's table: `desired` reads the [`Verdict`]s.

mod board;
mod hold;
mod judge;
mod path;
pub mod probe;
mod run;
mod track;

pub use run::{Checking, Watched, run};

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// What is to be done with a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Use it.
    Up,
    /// Nothing is known yet.
    #[default]
    Unknown,
    /// It answers, but not as it should, or not on the virtual address: no new
    /// connections.
    Impaired,
    /// It does not answer at all: its connections are to end.
    Dead,
}

/// One way to ask a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// At its own address.
    Plain,
    /// At this virtual address, through the kernel's table.
    Through(IpAddr),
}

/// How one way of asking fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerHealth {
    /// Does it count as good?
    pub is_up: Option<bool>,
    /// Good or bad answers in a row, whichever it is.
    pub streak: u32,
    /// Why the last one was bad, in words.
    pub reason: Option<String>,
    /// How long the last answer took.
    pub took: Option<Duration>,
    /// When it was asked last.
    pub asked: Option<Instant>,
}

/// What is known of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeHealth {
    /// What to do.
    pub verdict: Verdict,
    /// Why, in words.
    pub reason: String,
    /// Since when.
    pub since: Option<Instant>,
    /// Each way of asking.
    pub layers: BTreeMap<Layer, LayerHealth>,
    /// Until when it is held down because it flapped.
    pub held_until: Option<Instant>,
}

/// What is known of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// By the node's address.
    pub nodes: BTreeMap<IpAddr, NodeHealth>,
    /// Too few are up: likely it is us. The verdicts are those from before.
    pub quorum_lost: bool,
}

/// The marks whose private virtual servers are in the kernel, with the node
/// that each leads to. A probe with any other mark would reach somebody else.
pub type Marks = BTreeMap<IpAddr, NonZeroU32>;
