//! Docker's objects as far as Tidegate looks at them.
//!
//! Plain values without behaviour beyond small questions; nothing here is
//! spelled as the engine spells it. `convert` and `task` fill them. What makes up a
//! Swarm can be told to other proxies, which may be of another version.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// A container of the engine that was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// The full id.
    pub id: String,
    /// The name, without the engine's leading slash.
    pub name: String,
    /// The image as it was named when the container was made.
    pub image: String,
    /// All labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it runs.
    pub state: ContainerState,
    /// What its health check says; nothing when it has none.
    pub health: Option<Health>,
    /// `bridge`, `host`, `none`, `container:ID` or a network's name.
    pub network_mode: String,
    /// Its addresses, by network name.
    pub networks: BTreeMap<String, NetworkAttachment>,
    /// Exposed ports, and where they are published.
    pub ports: Vec<PortBinding>,
    /// Set while an event says that it is about to stop or has stopped and the
    /// list does not show it yet.
    pub leaving: bool,
}

/// Whether a container runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ContainerState {
    /// Made, never started.
    #[default]
    Created,
    /// Runs.
    Running,
    /// Frozen.
    Paused,
    /// Between two runs.
    Restarting,
    /// Ended, dead, or being removed.
    Ended,
}

/// What a container's health check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Health {
    /// No result yet.
    Starting,
    /// The last check passed.
    Healthy,
    /// The last checks failed.
    Unhealthy,
}

/// The network a container or task is attached to, and its addresses there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkAttachment {
    /// The network's id.
    pub id: String,
    /// The addresses.
    pub address: Address,
    /// Whether it is the ingress network of the routing mesh, on which nothing
    /// but the mesh may talk to a task.
    pub ingress: bool,
}

/// At most one address of each family.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(default)]
pub struct Address {
    /// The IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// The IPv6 address.
    pub v6: Option<Ipv6Addr>,
}

impl Address {
    /// The address to use: IPv4 if there is one.
    pub fn preferred(self) -> Option<IpAddr> {
        self.v4.map(IpAddr::V4).or_else(|| self.v6.map(IpAddr::V6))
    }

    /// Adds an address unless its family has one already.
    pub fn add(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.v4 = self.v4.or(Some(address)),
            IpAddr::V6(address) => self.v6 = self.v6.or(Some(address)),
        }
    }
}

/// A port of a container or task, and where it is published if it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortBinding {
    /// The port inside.
    pub port: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// The host's address; nothing when unpublished, unspecified when all.
    pub host_address: Option<IpAddr>,
    /// The host's port, when published.
    pub host_port: Option<u16>,
}

/// What a port speaks.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A Swarm service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// The id.
    pub id: String,
    /// Goes up with each change.
    pub version: u64,
    /// The name, with the stack's prefix.
    pub name: String,
    /// The service's own labels (`deploy.labels` of a stack file), not those of
    /// its containers.
    pub labels: BTreeMap<String, String>,
    /// How its name resolves.
    pub endpoint_mode: EndpointMode,
    /// Its virtual address by network id.
    pub virtual_ips: BTreeMap<String, IpAddr>,
    /// Published ports.
    pub ports: Vec<ServicePort>,
    /// Targets of its networks as written: ids, or names such as `host`.
    pub networks: Vec<String>,
    /// How many tasks it has.
    pub mode: ServiceMode,
    /// How its last update goes, when there was one.
    pub update: Option<UpdateState>,
}

/// How a service's name resolves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EndpointMode {
    /// To one virtual address.
    #[default]
    Vip,
    /// To the tasks' addresses.
    DnsRoundRobin,
}

/// How many tasks a service has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ServiceMode {
    /// A fixed number.
    Replicated(u64),
    /// One per node.
    Global,
    /// Tasks that end.
    Job,
}

impl Default for ServiceMode {
    fn default() -> Self {
        Self::Replicated(0)
    }
}

/// How a service's update goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum UpdateState {
    /// Tasks are being replaced, forwards or back.
    Running,
    /// It stopped on an error.
    Paused,
    /// It is through.
    Completed,
}

/// A published port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePort {
    /// The port inside.
    pub target: u16,
    /// The port outside; 0 when the engine has not chosen one.
    pub published: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// Where it is published.
    pub mode: PublishMode,
}

/// Where a service's port is published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PublishMode {
    /// On every node, through the routing mesh.
    #[default]
    Ingress,
    /// On the task's node.
    Host,
}

/// A Swarm task.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Task {
    /// The id.
    pub id: String,
    /// Goes up with each change.
    pub version: u64,
    /// Its service.
    pub service_id: String,
    /// Its node; empty until it is placed.
    pub node_id: String,
    /// Its number within a replicated service; 0 for a global one.
    pub slot: u64,
    /// What the Swarm wants.
    pub desired: TaskState,
    /// What is.
    pub state: TaskState,
    /// The container's id, once there is one.
    pub container_id: Option<String>,
    /// Its addresses, by network name.
    pub networks: BTreeMap<String, NetworkAttachment>,
    /// Ports published on its node.
    pub ports: Vec<PortBinding>,
    /// What its container's health check says, when an event of this node told.
    pub health: Option<Health>,
    /// Set while a local event says that its container is about to stop or has
    /// stopped and the Swarm does not show it yet.
    pub leaving: bool,
}

impl Task {
    /// Whether it may be sent requests: it runs, is meant to, and nothing says
    /// that it is about to end or unwell.
    pub fn is_serving(&self) -> bool {
        self.state == TaskState::Running
            && self.desired == TaskState::Running
            && !self.leaving
            && !matches!(self.health, Some(Health::Starting | Health::Unhealthy))
    }
}

/// A task's state, desired or real.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TaskState {
    /// Not running yet.
    #[default]
    Pending,
    /// Ready to be started once its predecessor is gone.
    Ready,
    /// Runs.
    Running,
    /// Ended, failed, refused, orphaned, or to be so.
    Ended,
}

/// A Swarm network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// The id.
    pub id: String,
    /// The name, with the stack's prefix.
    pub name: String,
    /// `swarm`, `local` or `global`.
    pub scope: String,
    /// Whether it is the ingress network of the routing mesh.
    pub ingress: bool,
}

/// A node of the Swarm.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// The id.
    pub id: String,
    /// The host's name.
    pub hostname: String,
    /// The address by which managers know it.
    pub address: Option<IpAddr>,
    /// Whether it is there.
    pub state: NodeState,
    /// Whether it takes tasks.
    pub availability: Availability,
}

/// Whether a node is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum NodeState {
    /// Not known yet.
    #[default]
    Unknown,
    /// There.
    Ready,
    /// Its heartbeats stopped.
    Down,
    /// Left.
    Disconnected,
}

/// Whether a node takes tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Availability {
    /// It does.
    #[default]
    Active,
    /// It keeps its tasks and takes no more.
    Pause,
    /// Its tasks move away.
    Drain,
}
