//! Entry points as they are written.

use serde::{Deserialize, Serialize};
use tidegate_shared::settings::Interval;

use crate::config::dynamic::Domain;

/// `entryPoints.NAME`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EntryPoint {
    /// `[host]:port[/tcp]`.
    pub address: String,
    /// Whether routers that name no entry point use this one (and the others so marked) only.
    pub as_default: bool,
    /// Whether other processes may listen on the same address.
    pub reuse_port: bool,
    /// Whether users' own routers may answer an authority's challenges before we do.
    #[serde(rename = "allowACMEByPass")]
    pub allow_acme_by_pass: bool,
    /// Whose `X-Forwarded-*` headers are believed.
    pub forwarded_headers: ForwardedHeaders,
    /// Whose PROXY protocol header is believed; absent means that none is expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Time limits of connections.
    pub transport: Transport,
    /// HTTP settings.
    pub http: EntryPointHttp,
    /// HTTP/2 settings.
    pub http2: EntryPointHttp2,
    /// What is recorded of requests where a router does not say.
    pub observability: super::super::dynamic::ObservabilitySwitches,
}

/// `forwardedHeaders`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ForwardedHeaders {
    /// Believe everyone.
    pub insecure: bool,
    /// Believe these addresses and networks.
    #[serde(rename = "trustedIPs")]
    pub trusted_ips: Vec<String>,
    /// Headers that are passed on although `Connection` names them.
    pub connection: Vec<String>,
    /// Whether the peer is left out of `X-Forwarded-For`.
    pub not_append_x_forwarded_for: bool,
}

/// `proxyProtocol`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProxyProtocol {
    /// Believe everyone.
    pub insecure: bool,
    /// Believe these addresses and networks.
    #[serde(rename = "trustedIPs")]
    pub trusted_ips: Vec<String>,
}

/// `transport`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Transport {
    /// How the entry point stops.
    pub life_cycle: LifeCycle,
    /// Time limits towards clients.
    pub responding_timeouts: RespondingTimeouts,
    /// Longest life of a kept-alive connection; 0 means no limit.
    pub keep_alive_max_time: Interval,
    /// Most requests on one connection; 0 means no limit.
    pub keep_alive_max_requests: u64,
}

/// `lifeCycle`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LifeCycle {
    /// How long new connections are still taken after a SIGTERM.
    pub request_accept_grace_timeout: Interval,
    /// How long requests may then take to finish.
    pub grace_time_out: Interval,
}

impl Default for LifeCycle {
    fn default() -> Self {
        Self {
            request_accept_grace_timeout: Interval::default(),
            grace_time_out: Interval::from_secs(10),
        }
    }
}

/// `respondingTimeouts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RespondingTimeouts {
    /// Longest time to read a whole request; 0 means no limit.
    pub read_timeout: Interval,
    /// Longest time to write a response; 0 means no limit.
    pub write_timeout: Interval,
    /// Longest time between two requests; 0 means no limit.
    pub idle_timeout: Interval,
}

impl Default for RespondingTimeouts {
    fn default() -> Self {
        Self {
            read_timeout: Interval::from_secs(60),
            write_timeout: Interval::default(),
            idle_timeout: Interval::from_secs(180),
        }
    }
}

/// `entryPoints.NAME.http`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EntryPointHttp {
    /// Redirections of everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirections: Option<Redirections>,
    /// Middlewares in front of every router's own.
    pub middlewares: Vec<String>,
    /// TLS settings of routers that have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<EntryPointTls>,
    /// Whether `;` in a query is passed on as `%3B` instead of `&`.
    pub encode_query_semicolons: bool,
    /// Whether `.`, `..` and `//` in paths are resolved before routing.
    pub sanitize_path: bool,
    /// Which escapes a path may hold.
    pub encoded_characters: EncodedCharacterSwitches,
    /// Longest head of a request in bytes; beyond it the answer is 431.
    pub max_header_bytes: usize,
    /// What happens to header names with an underscore.
    pub underscore_headers_strategy: UnderscoreHeaders,
}

impl Default for EntryPointHttp {
    fn default() -> Self {
        Self {
            redirections: None,
            middlewares: Vec::new(),
            tls: None,
            encode_query_semicolons: false,
            sanitize_path: true,
            encoded_characters: EncodedCharacterSwitches::default(),
            max_header_bytes: 1 << 20,
            underscore_headers_strategy: UnderscoreHeaders::default(),
        }
    }
}

/// What happens to header names with an underscore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnderscoreHeaders {
    /// They are passed on.
    #[default]
    Keep,
    /// They are removed.
    Delete,
    /// The request is refused with 400.
    Reject,
}

/// `encodedCharacters`: false refuses a path that holds the escape, with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "seven independent switches, named by Traefik"
)]
pub struct EncodedCharacterSwitches {
    /// `%2F`
    pub allow_encoded_slash: bool,
    /// `%5C`
    pub allow_encoded_back_slash: bool,
    /// `%00`
    pub allow_encoded_null_character: bool,
    /// `%3B`
    pub allow_encoded_semicolon: bool,
    /// `%25`
    pub allow_encoded_percent: bool,
    /// `%3F`
    pub allow_encoded_question_mark: bool,
    /// `%23`
    pub allow_encoded_hash: bool,
}

impl Default for EncodedCharacterSwitches {
    fn default() -> Self {
        Self {
            allow_encoded_slash: true,
            allow_encoded_back_slash: true,
            allow_encoded_null_character: true,
            allow_encoded_semicolon: true,
            allow_encoded_percent: true,
            allow_encoded_question_mark: true,
            allow_encoded_hash: true,
        }
    }
}

/// `redirections`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Redirections {
    /// To another entry point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry_point: Option<RedirectEntryPoint>,
}

/// `redirections.entryPoint`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RedirectEntryPoint {
    /// An entry point's name, or `:port`.
    pub to: String,
    /// The scheme to redirect to.
    pub scheme: String,
    /// 301 and 308 instead of 302 and 307.
    pub permanent: bool,
    /// The priority of the router that redirects.
    pub priority: i64,
}

/// The highest priority that a user's router can have, and the default of a
/// redirection's router: Go's largest int less one thousand, and less one.
pub const MAX_USER_PRIORITY: i64 = i64::MAX - 1000;

impl Default for RedirectEntryPoint {
    fn default() -> Self {
        Self {
            to: String::new(),
            scheme: "https".to_owned(),
            permanent: true,
            priority: i64::MAX - 1,
        }
    }
}

/// `entryPoints.NAME.http.tls`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EntryPointTls {
    /// As a router's.
    pub options: String,
    /// As a router's.
    pub cert_resolver: String,
    /// As a router's.
    pub domains: Vec<Domain>,
}

/// `entryPoints.NAME.http2`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct EntryPointHttp2 {
    /// Most requests at once on one connection.
    pub max_concurrent_streams: u32,
}

impl Default for EntryPointHttp2 {
    fn default() -> Self {
        Self {
            max_concurrent_streams: 250,
        }
    }
}
