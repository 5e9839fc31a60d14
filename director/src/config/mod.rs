//! What the director is told: one checked value out of flags, environment and a file.
//!
//! [`Settings`] is whole and right once it exists; nothing else is read later.
//! How it is spelled is `loader`'s business. Everybody may read it, nobody here
//! does anything.

pub mod help;
pub mod loader;
mod options;
mod written;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::model::{Family, Forwarding, KernelName, Protocol, Scheduling, Timeouts};

/// Everything that is configured.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `--role director,receiver`: what this machine does.
    pub roles: Roles,
    /// `--vip`: the virtual addresses, in the order given, each once.
    pub vips: Vec<Vip>,
    /// `--interface`: where the clients are. Nothing: the one whose network
    /// holds the first virtual address.
    pub interface: Option<KernelName>,
    /// `--interface-timeout`: how long to wait for it and its address at the
    /// start: it may come up later than this program.
    pub interface_timeout: Duration,
    /// `--port`: what is balanced; 80/tcp, 443/tcp and 443/udp by default.
    pub ports: Vec<Port>,
    /// Where the proxies are found.
    pub sources: SourceSettings,
    /// `--scheduler`, with its flags and `--persistence`.
    pub scheduling: Scheduling,
    /// `--forwarding`: direct routing by default.
    pub forwarding: Forwarding,
    /// `--weight`: of a real server that is up; 100 by default, 1 where the
    /// scheduler hashes.
    pub weight: u32,
    /// Who holds the virtual addresses.
    pub vrrp: VrrpSettings,
    /// How real servers are checked.
    pub check: CheckSettings,
    /// What is asked of the kernel's IPVS.
    pub kernel: KernelSettings,
    /// How this machine receives.
    pub receiver: ReceiverSettings,
    /// `--api` and what belongs to it.
    pub api: ApiSettings,
    /// `--state-file`: where services registered by the API outlive a restart.
    pub state_file: Option<PathBuf>,
    /// `--dry-run`: a kernel in memory instead of the real one; nothing of this
    /// machine is changed and no VRRP message is sent.
    pub dry_run: bool,
    /// How the log is written.
    pub log: LogSettings,
}

/// What a machine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// It may hold the virtual addresses and spread the connections.
    pub director: bool,
    /// It takes what a director sends.
    pub receiver: bool,
}

/// A virtual address and the length of its network's prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vip {
    /// The address.
    pub address: IpAddr,
    /// As written; the full length if nothing was. Says which network it lies
    /// in; the address itself is always set with the full length.
    pub prefix: u8,
}

/// A port that is balanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port {
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The number, not 0.
    pub number: u16,
}

/// Where the proxies are found. All that is given is used together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSettings {
    /// `--node`: addresses that are always there.
    pub nodes: Vec<IpAddr>,
    /// `--dns`: names whose addresses are nodes, asked for again and again.
    pub dns: Vec<String>,
    /// `--dns-interval`: how often; 5 s by default.
    pub dns_interval: Duration,
    /// `--swarm`: the nodes that run a task of this service.
    pub swarm: Option<SwarmSettings>,
    /// `--docker-link`: registers the exposed ports of started containers.
    pub docker_link: Option<DockerLinkSettings>,
    /// Messages of receivers.
    pub heartbeat: HeartbeatSettings,
}

/// How to ask a Swarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwarmSettings {
    /// The proxy's service, as `docker service ls` names it.
    pub service: String,
    /// `--docker`: the engine's endpoint (`unix:///var/run/docker.sock`).
    pub endpoint: String,
    /// `--docker-poll`: how often to ask although no event came; 5 s by default.
    pub poll: Duration,
}

/// How to follow an engine's containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerLinkSettings {
    /// `--docker`, as for the Swarm.
    pub endpoint: String,
}

/// Messages from receivers to directors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatSettings {
    /// `--heartbeat`: off without it being asked for or a key being given.
    pub enabled: bool,
    /// `--heartbeat-port`: UDP, 4673 by default.
    pub port: u16,
    /// `--heartbeat-key-file`: what messages are signed with; all machines share it.
    pub key: Option<Secret>,
    /// `--heartbeat-interval`: 500 ms by default; three missed are a silence.
    pub interval: Duration,
    /// `--director-address`: to whom a receiver reports; empty is the virtual
    /// routers' peers, and without those every machine of the network (multicast).
    pub directors: Vec<IpAddr>,
}

/// Bytes that are shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Who holds the virtual addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VrrpSettings {
    /// `--vrrp=false`: no election, this machine always holds them.
    pub enabled: bool,
    /// `--vrid`: 1 to 255; of each family of addresses one virtual router.
    pub vrid: u8,
    /// `--priority`: 1 to 254, or 255 for the owner; 100 by default.
    pub priority: u8,
    /// `--advert-interval`: 250 ms by default.
    pub interval: Duration,
    /// `--preempt`, `--preempt-delay`.
    pub preempt: crate::vrrp::Preempt,
    /// `--vrrp-version`: 3 by default.
    pub version: crate::vrrp::packet::Version,
    /// `--vrrp-checksum`: nothing follows whoever was heard last.
    pub checksum: Option<crate::vrrp::packet::Checksum>,
    /// `--peer`: unicast to these; empty is multicast.
    pub peers: Vec<IpAddr>,
    /// `--witness`: what must be heard before taking over. Empty: the gateway,
    /// the peers and the nodes.
    pub witnesses: Vec<IpAddr>,
    /// `--witness-check=false` takes over without a witness.
    pub needs_witness: bool,
    /// `--duplicate-check=false` takes over without asking who holds the address.
    pub duplicate_check: bool,
    /// `--announce-interval`: how often a master repeats its announcement.
    pub refresh: Duration,
}

/// What a check asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// A connection is enough.
    Tcp,
    /// A TLS handshake with this name is, whatever the certificate.
    Tls,
    /// An HTTP answer of an expected status in the clear.
    Http,
    /// The same over TLS.
    Https,
}

/// How real servers are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckSettings {
    /// `--check`: nothing is checked with `none`.
    pub kind: Option<CheckKind>,
    /// `--check-port`: the first TCP port that is balanced, if not given.
    pub port: u16,
    /// `--check-path`: `/ping` by default.
    pub path: String,
    /// `--check-host`: for SNI and the Host line; the virtual address if not given.
    pub host: Option<String>,
    /// `--check-expect`: statuses, `200`, `200-399`, several by commas.
    pub expect: Vec<std::ops::RangeInclusive<u16>>,
    /// `--check-interval`: 1 s by default, 100 ms at least.
    pub interval: Duration,
    /// `--check-timeout`: the interval by default, and at most three of them.
    pub timeout: Duration,
    /// `--check-rise`: good answers in a row before a node is used again.
    pub rise: u32,
    /// `--check-fall`: bad ones before it is not.
    pub fall: u32,
    /// `--check-path-through-vip=false`: only the plain checks.
    pub through_vip: bool,
    /// `--quorum`: with fewer nodes up than this the last set is kept; 1 by default.
    pub quorum: u32,
}

/// What is asked of the kernel's IPVS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelSettings {
    /// `--sync=false`: no sync daemons.
    pub sync: bool,
    /// `--sync-id`: the virtual router's number by default.
    pub sync_id: u8,
    /// `--sync-interface`: the clients' interface by default.
    pub sync_interface: Option<KernelName>,
    /// `--timeouts tcp,fin,udp`: when silent connections are forgotten.
    pub timeouts: Timeouts,
    /// `--kernel-settings=false`: leave `net.ipv4.vs` as it is.
    pub tune: bool,
}

/// How this machine receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiverSettings {
    /// `--receiver-device`: the dummy device of our own, `tidegate0`; `lo` is
    /// used in its place, and never removed.
    pub device: KernelName,
    /// `--keep`: leave the addresses when the program ends.
    pub keep: bool,
    /// `--proc-sys`: where the kernel's settings can be written, tried first;
    /// `/proc/sys` otherwise.
    pub proc_sys: Option<PathBuf>,
}

/// How the director is looked at and told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiSettings {
    /// `--api`: an address to listen on; nothing by default.
    pub listen: Option<SocketAddr>,
    /// `--socket`: the unix socket of the command line tool; always there.
    pub socket: PathBuf,
    /// `--api-write`: whether `--api` may change anything; the socket may.
    pub writable: bool,
    /// `--api-token-file`: what requests to `--api` must bear.
    pub token: Option<Secret>,
    /// `--api-cert` and `--api-key`: PEM files; TLS with them.
    pub tls: Option<(PathBuf, PathBuf)>,
}

/// How the log is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// `--log-level`.
    pub level: tracing::Level,
    /// `--log-format json`.
    pub json: bool,
}

impl Settings {
    /// The virtual addresses of one family.
    pub fn vips_of(&self, family: Family) -> impl Iterator<Item = Vip> {
        let vips = self.vips.iter().copied();
        vips.filter(move |vip| Family::of(vip.address) == family)
    }
}
