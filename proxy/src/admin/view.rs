//! What the API shows: plain data, filled from a snapshot's report.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::cluster::{ClusterView, ProviderView};
use super::resolvers::ResolverView;
use crate::config::dynamic::{Middleware, Router, Service};

/// Where the API gets its data. Called for each request, on a thread that may
/// take its time.
pub trait ApiSource: fmt::Debug + Send + Sync {
    /// The configuration that is served now, and the state of its servers.
    fn view(&self) -> Arc<ApiView>;
}

/// Everything that the API shows of the dynamic configuration.
#[derive(Clone, Debug, Default)]
pub struct ApiView {
    /// Routers by full name.
    pub routers: BTreeMap<String, RouterView>,
    /// Services by full name.
    pub services: BTreeMap<String, ServiceView>,
    /// Middlewares by full name.
    pub middlewares: BTreeMap<String, MiddlewareView>,
    /// Certificates that are served.
    pub certificates: Vec<CertificateView>,
    /// Certificate resolvers, by name.
    pub resolvers: Vec<ResolverView>,
    /// Providers that follow something outside of this process.
    pub providers: Vec<ProviderView>,
    /// The cluster, if this proxy is in one.
    pub cluster: Option<ClusterView>,
    /// What is wrong with settings that belong to no object, each with its origin.
    pub problems: Vec<String>,
}

/// Whether an object works, in Traefik's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It works.
    #[default]
    Enabled,
    /// It works, and something about it was refused.
    Warning,
    /// It is left out.
    Disabled,
}

impl Status {
    /// Traefik's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Warning => "warning",
            Self::Disabled => "disabled",
        }
    }
}

/// A router.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouterView {
    /// As it was configured, with its effective priority.
    #[serde(flatten)]
    pub config: Router,
    /// Whether it works.
    pub status: Status,
    /// The entry points it listens on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub using: Vec<String>,
    /// What is wrong with it, each with its origin.
    #[serde(rename = "error", skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}

/// A service.
#[derive(Clone, Debug, Default)]
pub struct ServiceView {
    /// As it was configured; absent for services that are built in.
    pub config: Option<Service>,
    /// Whether it works.
    pub status: Status,
    /// The routers that use it, by full name.
    pub used_by: Vec<String>,
    /// What is wrong with it, each with its origin.
    pub errors: Vec<String>,
    /// Its servers as they are now.
    pub servers: Vec<ServerView>,
    /// Its queue as it is now.
    pub queue: QueueView,
}

/// A service's queue. Totals count since the service came to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueView {
    /// Requests that wait, for any server or for a certain one.
    pub length: u32,
    /// Slots that went to one who waited.
    pub handed: u64,
    /// Requests that left without one: too late, or the client went away.
    pub withdrawn: u64,
    /// Requests refused because as many waited as may.
    pub full: u64,
}

/// A server of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerView {
    /// Its URL.
    pub url: Arc<str>,
    /// Whether it is up.
    pub up: bool,
    /// Whether it gets no new requests, but for those that belong to it if it has
    /// merely no weight.
    pub draining: bool,
    /// Requests at the server.
    pub in_flight: u32,
    /// Most requests at once at the moment; 0 means no limit.
    pub limit: u32,
    /// Most requests at once as configured; 0 means no limit.
    pub maxconn: u32,
    /// The least that the limit falls to while the service is idle; 0 means that it
    /// is fixed.
    pub minconn: u32,
    /// Requests that wait for this very server.
    pub queue: u32,
    /// Requests that it was given, in all.
    pub requests: u64,
    /// How often failed requests took it out, in all; absent where nobody judges it
    /// by them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ejections: Option<u64>,
    /// Its connections; services that share a server share these.
    pub connections: ConnectionsView,
}

/// Connections to a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionsView {
    /// Opened, in all.
    pub opened: u64,
    /// Taken again for a further request, in all.
    pub reused: u64,
    /// Not opened, for whatever reason, in all.
    pub failed: u64,
    /// Idle now.
    pub idle: u64,
    /// All that exist now, tunnels and those that are being opened included.
    pub open: u64,
}

/// A middleware.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MiddlewareView {
    /// As it was configured.
    #[serde(flatten)]
    pub config: Middleware,
    /// Whether it works.
    pub status: Status,
    /// The routers that use it, by full name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub used_by: Vec<String>,
    /// What is wrong with it, each with its origin.
    #[serde(rename = "error", skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}

/// A certificate. Times are in RFC 3339.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateView {
    /// The SHA-256 fingerprint of the certificate, in hexadecimal: its name in the API.
    pub name: String,
    /// The subject's common name.
    pub common_name: String,
    /// The subject's alternative names, sorted.
    pub sans: Vec<String>,
    /// When it begins.
    pub not_before: String,
    /// When it ends.
    pub not_after: String,
    /// The serial number, in decimal.
    pub serial_number: String,
    /// The issuer's organization.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub issuer_org: String,
    /// The issuer's common name.
    #[serde(rename = "issuerCN", skip_serializing_if = "String::is_empty")]
    pub issuer_cn: String,
    /// `RSA`, `ECDSA` or `Unknown`.
    pub key_type: String,
    /// `enabled`, `warning` (it ends soon) or `expired`.
    pub status: String,
}
