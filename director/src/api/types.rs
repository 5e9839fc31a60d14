//! What the API says, as the command line tool reads it too.
//!
//! Plain values. Times are ages in seconds, by a clock that nobody sets; only
//! events carry the wall clock besides. Fields that are not known are `null`.

mod table;

pub use table::{Change, Counters, Plan, RealServer, Table, VirtualServer};

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// In words.
    pub error: String,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// In words.
    pub done: String,
}

/// The whole picture: `GET /v1/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Of the program.
    pub version: String,
    /// How long it has run, in seconds.
    pub uptime: f64,
    /// `director`, `receiver`.
    pub roles: Vec<String>,
    /// Is the kernel only one in memory?
    pub dry_run: bool,
    /// The virtual addresses with the lengths of their prefixes.
    pub vips: Vec<String>,
    /// The ports, such as `443/tcp`.
    pub ports: Vec<String>,
    /// The virtual routers.
    pub vrrp: Vec<Router>,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Are too few nodes up to believe it?
    pub quorum_lost: bool,
    /// The kernel's table.
    pub control: Control,
    /// Receiving; nothing without the role.
    pub receiver: Option<Receiver>,
    /// The sources of nodes.
    pub sources: Vec<Source>,
    /// What an operator should look at, in words; empty is good.
    pub trouble: Vec<String>,
}

/// What is known of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its address.
    pub address: IpAddr,
    /// What it is called.
    pub name: Option<String>,
    /// What its sources want: `ready`, `draining`, `down`.
    pub stance: String,
    /// Does the operator drain it?
    pub drained: bool,
    /// What its checks say.
    pub health: NodeHealth,
    /// Who names it.
    pub sightings: Vec<Sighting>,
    /// Its places behind virtual servers.
    pub servers: Vec<Place>,
}

/// What checks say of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeHealth {
    /// Its address.
    pub address: IpAddr,
    /// `up`, `unknown`, `impaired` or `dead`.
    pub verdict: String,
    /// Why, in words.
    pub reason: String,
    /// For how long.
    pub since: Option<f64>,
    /// For how long yet it is held down because it flapped.
    pub held_for: Option<f64>,
    /// The ways it is asked.
    pub layers: Vec<Layer>,
}

/// One way of asking a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// `plain`: at its own address; `through`: at a virtual one.
    pub layer: String,
    /// The virtual address.
    pub vip: Option<IpAddr>,
    /// Does it count as good?
    pub up: Option<bool>,
    /// Good or bad answers in a row.
    pub streak: u32,
    /// Why the last answer was bad.
    pub reason: Option<String>,
    /// How long the last answer took.
    pub took: Option<f64>,
    /// How long ago it was asked.
    pub asked: Option<f64>,
}

/// What one source says of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sighting {
    /// `static`, `dns`, `swarm` or `heartbeat`.
    pub source: String,
    /// `ready`, `draining`, `down`.
    pub stance: String,
    /// What it is called there.
    pub name: Option<String>,
    /// Its share there.
    pub weight: Option<u32>,
    /// How long ago that was confirmed.
    pub age: f64,
}

/// A node's place behind a virtual server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// The virtual server.
    pub virtual_server: String,
    /// The real server.
    pub real_server: SocketAddr,
    /// The weight it should have; nothing if it should not be there.
    pub desired_weight: Option<u32>,
    /// The weight it has; nothing if it is not there.
    pub actual_weight: Option<u32>,
    /// Established connections, as the kernel estimates.
    pub active: Option<u32>,
    /// Connections that begin or end.
    pub inactive: Option<u32>,
}

/// What checks say of all nodes: `GET /v1/health`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// Are too few up to believe it? The verdicts are then those from before.
    pub quorum_lost: bool,
    /// By address.
    pub nodes: Vec<NodeHealth>,
}

/// How the kernel's table fares.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// Are the virtual servers to be in the kernel?
    pub serving: bool,
    /// How many virtual servers are desired, those of checks included.
    pub desired: usize,
    /// How many the kernel holds.
    pub actual: usize,
    /// How many changes are still to be made.
    pub pending: usize,
    /// How long ago the kernel was last found as desired.
    pub settled: Option<f64>,
    /// How long the last pass took.
    pub took: f64,
    /// Passes since the start.
    pub passes: u64,
    /// Changes made.
    pub changes: u64,
    /// Changes that put right what others had edited.
    pub repairs: u64,
    /// Changes the kernel refused.
    pub refusals: u64,
    /// Passes that failed as a whole.
    pub netlink_errors: u64,
    /// The nodes that the operator drains.
    pub drained: Vec<IpAddr>,
    /// The schedulers the kernel lacks, each with what is used instead.
    pub replaced: BTreeMap<String, String>,
    /// The sync daemons that run.
    pub sync: Vec<Sync>,
    /// What is wrong, in words.
    pub trouble: Option<String>,
}

/// A sync daemon of the kernel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sync {
    /// `master` tells, `backup` listens.
    pub role: String,
    /// Where.
    pub interface: String,
    /// Who shares the connections.
    pub sync_id: u8,
}

/// The virtual routers: `GET /v1/vrrp`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Vrrp {
    /// One for each family of addresses.
    pub routers: Vec<Router>,
}

/// A virtual router.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Router {
    /// Its number.
    pub vrid: u8,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Where.
    pub interface: String,
    /// `initialize`, `backup`, `master`, `leaving`.
    pub state: String,
    /// Why, in words.
    pub cause: Option<String>,
    /// For how long.
    pub since: f64,
    /// What it advertises.
    pub priority: u8,
    /// The master it hears.
    pub master: Option<Peer>,
    /// Are all addresses on the interface?
    pub holding: bool,
    /// Changes of state.
    pub transitions: u64,
    /// How long the last takeover took.
    pub takeover: Option<f64>,
    /// Announcements sent.
    pub announcements: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages believed.
    pub received: u64,
    /// Messages thrown away, by reason.
    pub discarded: BTreeMap<String, u64>,
    /// The last alarms.
    pub alarms: Vec<Alarm>,
}

/// Another director.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// What it advertises.
    pub priority: u8,
}

/// An alarm of a virtual router.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alarm {
    /// How long ago.
    pub age: f64,
    /// In words.
    pub words: String,
}

/// How receiving fares: `GET /v1/receiver`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Receiver {
    /// The device that holds the addresses.
    pub device: String,
    /// The virtual addresses that are in place.
    pub in_place: Vec<IpAddr>,
    /// Those that are not.
    pub missing: Vec<IpAddr>,
    /// What keeps the link from hearing of them: `settings` or `filter`.
    pub hushed_by: Option<String>,
    /// Repairs since the start.
    pub repairs: u64,
    /// How long ago the last one was.
    pub repaired: Option<f64>,
    /// What is wrong, in words.
    pub trouble: Option<String>,
}

/// The sources of nodes: `GET /v1/sources`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sources {
    /// Those that are used.
    pub sources: Vec<Source>,
}

/// A source of nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// `static`, `dns`, `swarm` or `heartbeat`.
    pub source: String,
    /// How long ago it had a whole answer.
    pub age: Option<f64>,
    /// How many nodes it names.
    pub nodes: usize,
    /// Why it has no answer now.
    pub error: Option<String>,
}

/// All nodes: `GET /v1/nodes`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Nodes {
    /// By address.
    pub nodes: Vec<Node>,
}

/// The last decisions: `GET /v1/events?follow=false`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Events {
    /// From old to new.
    pub events: Vec<Event>,
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Counts up from 1.
    pub number: u64,
    /// When, by the wall clock: RFC 3339, UTC.
    pub at: String,
    /// Which part decided.
    pub part: String,
    /// About what.
    pub subject: String,
    /// What.
    pub decision: String,
    /// Why.
    pub cause: String,
}
