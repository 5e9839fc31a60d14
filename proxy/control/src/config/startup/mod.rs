//! The static configuration: what only a restart changes.
//!
//! Key names and defaults are Traefik's. Flags, environment variables or one
//! file are read into this model; what Traefik knows and this version does not
//! obey is absent here and is named in a warning by the reader.

mod cluster;
mod entry_point;
mod observe;
mod provider;
mod resolver;

pub use cluster::Cluster;

pub use entry_point::{
    EncodedCharacterSwitches, EntryPoint, EntryPointHttp, EntryPointHttp2, EntryPointTls,
    ForwardedHeaders, LifeCycle, MAX_USER_PRIORITY, ProxyProtocol, RedirectEntryPoint,
    Redirections, RespondingTimeouts, Transport, UnderscoreHeaders,
};
pub use observe::{
    AccessLog, AccessLogFields, AccessLogFilters, AccessLogFormat, FieldMode, HeaderFields, Log,
    LogFormat, Metrics, Ping, Prometheus, QueryParameterFields,
};
pub use provider::{ClientTls, DockerProvider, FileProvider, Providers, SwarmProvider};
pub use resolver::{
    Acme, CertificatesResolver, DnsChallenge, ExternalAccount, HttpChallenge, Propagation,
    TlsChallenge,
};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::dynamic::ServersTransport;

/// Everything that is fixed when the process starts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StaticConfig {
    /// What Traefik would send home; nothing is ever sent.
    pub global: Global,
    /// Addresses to listen on, by name.
    pub entry_points: BTreeMap<String, EntryPoint>,
    /// Where the dynamic configuration comes from.
    pub providers: Providers,
    /// The read-only API; absent means off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api: Option<Api>,
    /// Prometheus metrics; absent means off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    /// The health check of the process itself; absent means off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ping: Option<Ping>,
    /// The process's own log.
    pub log: Log,
    /// A line for each request; absent means off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_log: Option<AccessLog>,
    /// How servers are talked to where a service names no transport.
    pub servers_transport: ServersTransport,
    /// What rules are taken to be written in.
    pub core: Core,
    /// Where certificates come from, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub certificates_resolvers: BTreeMap<String, CertificatesResolver>,
    /// What proxies tell each other (Tidegate's own); absent means nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
    /// Worker threads; 0 means one for each CPU (Tidegate's own).
    pub workers: usize,
}

/// `global`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Global {
    /// Whether to look for new versions. Tidegate never does; true is a warning.
    pub check_new_version: Option<bool>,
    /// Whether to send usage figures. Tidegate never does; true is a warning.
    pub send_anonymous_usage: Option<bool>,
}

/// `core`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Core {
    /// The syntax of rules that name none.
    pub default_rule_syntax: RuleSyntax,
}

/// The two generations of Traefik's rule language.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuleSyntax {
    /// Traefik v2's.
    #[serde(rename = "v2")]
    V2,
    /// Traefik v3's.
    #[default]
    #[serde(rename = "v3")]
    V3,
}

/// `api`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Api {
    /// Whether it is served on the entry point `traefik` without any router.
    pub insecure: bool,
    /// Whether `/dashboard/` answers.
    pub dashboard: bool,
    /// What the API's paths begin with.
    pub base_path: String,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            insecure: false,
            dashboard: true,
            base_path: "/".to_owned(),
        }
    }
}
