//! Live state as it is handed in when metrics are scraped.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Where live state is asked for. Called on a thread that may take its time;
/// each method returns what is true now.
pub trait LiveState: fmt::Debug + Send + Sync {
    /// Every server of every service.
    fn servers(&self) -> Vec<ServerSample>;
    /// Every service with a queue.
    fn services(&self) -> Vec<ServiceSample>;
    /// Every certificate that is served.
    fn certificates(&self) -> Vec<CertificateSample>;
    /// Every provider.
    fn providers(&self) -> Vec<ProviderSample>;
    /// Every certificate resolver.
    fn resolvers(&self) -> Vec<ResolverSample>;
    /// The mesh, if this process is in a cluster.
    fn mesh(&self) -> Option<MeshSample>;
}

/// A server as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSample {
    /// The service's full name.
    pub service: Arc<str>,
    /// The server's URL.
    pub url: Arc<str>,
    /// Whether it is up.
    pub up: bool,
    /// Whether it gets no new requests because it is about to go.
    pub draining: bool,
    /// Requests at the server.
    pub in_flight: u32,
    /// Most requests at once at the moment; 0 means no limit.
    pub limit: u32,
    /// Most requests at once as configured; 0 means no limit.
    pub maxconn: u32,
    /// Requests that wait for this very server.
    pub queued: u32,
    /// Requests that it was given.
    pub requests: u64,
    /// How often failed requests took it out, since the start; absent where
    /// nobody judges it by them.
    pub ejections: Option<u64>,
    /// Its connections.
    pub connections: ConnectionSample,
}

/// Connections to a server. Services that share a server share these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionSample {
    /// Opened since the start.
    pub opened: u64,
    /// Taken again for a further request, since the start.
    pub reused: u64,
    /// Not opened, for whatever reason, since the start.
    pub failed: u64,
    /// Idle now.
    pub idle: u64,
    /// All that exist now, tunnels and those that are being opened included.
    pub open: u64,
}

/// A service as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSample {
    /// The service's full name.
    pub service: Arc<str>,
    /// Requests that wait, for any of its servers or for a certain one.
    pub queued: u32,
    /// Slots that went to one who waited, since the start.
    pub handed: u64,
    /// Requests that left the queue without one, since the start.
    pub withdrawn: u64,
}

/// A certificate that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateSample {
    /// The subject's common name.
    pub cn: String,
    /// The serial number, in decimal as Traefik shows it.
    pub serial: String,
    /// The subject's alternative names, sorted and joined by commas.
    pub sans: String,
    /// When it ends.
    pub not_after: SystemTime,
}

/// A provider as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderSample {
    /// The provider's name.
    pub provider: Arc<str>,
    /// When it last delivered, or found nothing changed.
    pub last_success: Option<SystemTime>,
    /// Whether it can't reach what it reads from.
    pub is_stale: bool,
    /// The proxy that reads in its place.
    pub source: Option<Arc<str>>,
}

/// The mesh between the proxies of a cluster as it is now. What is counted is so since
/// the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshSample {
    /// The other members, and whether each can be reached.
    pub members: Vec<(Arc<str>, bool)>,
    /// How many of them are connected with this one.
    pub connected: u64,
    /// How many facts are known.
    pub facts: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Connections that were refused, by reason.
    pub refused: Vec<(&'static str, u64)>,
    /// Connections that came about.
    pub connections: u64,
    /// Connections that ended because the other end was too slow or silent.
    pub lost: u64,
    /// Bytes that members sent.
    pub received_bytes: u64,
    /// Bytes that were sent to them.
    pub sent_bytes: u64,
    /// Facts that members told, by what became of them.
    pub heard: [(&'static str, u64); 3],
    /// Questions of members.
    pub questions: u64,
    /// Those of them that were not answered.
    pub questions_refused: u64,
    /// Times that the state file could not be written.
    pub state_failed: u64,
}

/// A certificate resolver as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolverSample {
    /// The resolver's name.
    pub resolver: Arc<str>,
    /// The certificates in its store that can be served.
    pub certificates: usize,
    /// How many certificates routers want, by how far they are.
    pub wanted: BTreeMap<&'static str, u64>,
    /// How long ago its store was last read; absent before the first time.
    pub store_age: Option<Duration>,
    /// When the first of its wanted certificates is to be renewed.
    pub next_renewal: Option<SystemTime>,
    /// Orders that this proxy made, by outcome.
    pub orders: BTreeMap<&'static str, u64>,
}
