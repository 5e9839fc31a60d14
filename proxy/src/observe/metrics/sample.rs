//! Live state as it is handed in when metrics are scraped.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

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
}

/// A server as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSample {
    /// The service's full name.
    pub service: Arc<str>,
    /// The server's URL.
    pub url: Arc<str>,
    /// Requests at the server.
    pub in_flight: u32,
    /// Most requests at once; 0 means no limit.
    pub maxconn: u32,
    /// Requests that wait for this very server.
    pub queued: u32,
    /// Whether it is up.
    pub up: bool,
}

/// A service as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSample {
    /// The service's full name.
    pub service: Arc<str>,
    /// Requests that wait for any of its servers.
    pub queued: u32,
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
}
