//! What the parts of a running director let each other see.
//!
//! Every part publishes its state in a watch channel; [`Observed`] holds the
//! reading ends, for `desired`'s loop, the API and the metrics. What others ask
//! for comes as a [`Command`]. The [`Journal`] keeps the last decisions with
//! their causes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use crate::health::{Health, Marks};
use crate::ipvs::RealEntry;
use crate::journal::Journal;
use crate::model::{Counters, Family, KernelName, Scheduling, SyncDaemon, Table, VirtualAddress};
use crate::network::Snapshot;
use crate::plan::Change;
use crate::receiver::ReceiverState;
use crate::source::Roster;
use crate::vrrp::{Alarm, Cause, State};

/// All there is to see. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Where the proxies are.
    pub roster: watch::Receiver<Arc<Roster>>,
    /// Whether they can be used.
    pub health: watch::Receiver<Arc<Health>>,
    /// The kernel's table, and what it should be.
    pub control: watch::Receiver<Arc<ControlState>>,
    /// The virtual routers, in the order of their families.
    pub vrrp: watch::Receiver<Arc<VrrpState>>,
    /// Receiving.
    pub receiver: watch::Receiver<Arc<ReceiverState>>,
    /// This machine's links.
    pub network: watch::Receiver<Arc<Snapshot>>,
    /// What was decided lately.
    pub journal: Journal,
}

/// The kernel's table, and what it should be.
#[derive(Clone, Debug, Default)]
pub struct ControlState {
    /// What it should be.
    pub desired: Arc<Table>,
    /// What it was when it was last read whole: ours, in the kernel's order.
    pub actual: BTreeMap<VirtualAddress, ActualServer>,
    /// What remained to be done after the last pass.
    pub pending: Vec<Change>,
    /// Does it serve: are the virtual servers to be in the kernel?
    pub is_serving: bool,
    /// Nodes that the operator drains.
    pub drained: BTreeSet<IpAddr>,
    /// Where each node stands, and why.
    pub standing: BTreeMap<IpAddr, Standing>,
    /// Why the table is not what the checks alone would make of it, in words.
    pub alarm: Option<String>,
    /// The marks that may be used for probes.
    pub marks: Marks,
    /// The schedulers the kernel lacks, each with what is used instead.
    pub replaced: BTreeMap<KernelName, KernelName>,
    /// The sync daemons that run.
    pub sync: Vec<SyncDaemon>,
    /// Counts since the start.
    pub counts: ControlCounts,
    /// When the kernel was last found as desired.
    pub settled: Option<Instant>,
    /// How long the last pass took.
    pub took: Duration,
    /// Why the kernel can't be reached or what it refuses, in words.
    pub trouble: Option<String>,
}

/// Where a node stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its share; 0 takes no new connections, nothing is out of the table.
    pub weight: Option<u32>,
    /// Why, in words.
    pub why: String,
    /// When the last source forgot it, while its connections are let run.
    pub left: Option<Instant>,
}

/// A virtual server as the kernel has it.
#[derive(Clone, Debug)]
pub struct ActualServer {
    /// How it spreads.
    pub scheduling: Scheduling,
    /// What went through it.
    pub counters: Counters,
    /// What is behind it. Shared with the readings before it that found the same:
    /// a large table is read by parts, and whole ones are passed on and shown.
    pub real_servers: Arc<[RealEntry]>,
}

/// What the loop has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ControlCounts {
    /// Passes.
    pub passes: u64,
    /// Changes made.
    pub changes: u64,
    /// Changes made although nothing else was desired: others had edited the table.
    pub repairs: u64,
    /// Changes the kernel refused.
    pub refusals: u64,
    /// Passes that ended by an error of the netlink socket.
    pub netlink_errors: u64,
}

/// The virtual routers.
#[derive(Clone, Debug, Default)]
pub struct VrrpState {
    /// One for each family that has virtual addresses.
    pub routers: Vec<RouterState>,
}

/// A virtual router.
#[derive(Clone, Debug)]
pub struct RouterState {
    /// Its number.
    pub vrid: u8,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The interface.
    pub interface: KernelName,
    /// Where it stands.
    pub state: State,
    /// Why.
    pub cause: Option<Cause>,
    /// Since when.
    pub since: Instant,
    /// What it advertises.
    pub priority: u8,
    /// The master it hears, if it is another machine.
    pub master: Option<(IpAddr, u8)>,
    /// Are all addresses on the interface?
    pub is_holding: bool,
    /// Changes of state.
    pub transitions: u64,
    /// How long the last takeover took, from the decision to the announcement.
    pub takeover: Option<Duration>,
    /// Announcements (gratuitous ARP or neighbour advertisements) sent.
    pub announcements: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages received and believed.
    pub received: u64,
    /// Messages thrown away, by reason.
    pub discarded: BTreeMap<String, u64>,
    /// The last alarms, with when they were raised.
    pub alarms: Vec<(Instant, Alarm)>,
}

/// What an operator asks of a running director.
#[derive(Debug)]
pub enum Command {
    /// No new connections to this node.
    Drain(IpAddr),
    /// Connections to it again.
    Undrain(IpAddr),
    /// Give the virtual addresses to another director.
    Failover,
    /// Take everything of ours out of this machine, and stop.
    Teardown,
}

/// A command, and where the answer goes: what was done, or why not, in words.
pub type Ask = (Command, oneshot::Sender<Result<String, String>>);

/// What the election wants of the kernel's table. Answered once it is done, or
/// with why it can't be.
#[derive(Debug)]
pub enum Order {
    /// The virtual servers of a family are to be in the kernel: this machine is
    /// or will be master of its addresses.
    Program(Family, oneshot::Sender<Result<(), String>>),
    /// They are to be out of it: this machine is a standby.
    Withdraw(Family, oneshot::Sender<Result<(), String>>),
}
