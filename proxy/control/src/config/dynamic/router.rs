//! HTTP routers as they are written.

use serde::{Deserialize, Serialize};

/// `http.routers.NAME`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Router {
    /// The entry points it listens on; empty means the default ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entry_points: Vec<String>,
    /// The middlewares that a request passes, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub middlewares: Vec<String>,
    /// The service that answers.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service: String,
    /// Which requests it takes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rule: String,
    /// `v2` or `v3`; empty means `core.defaultRuleSyntax`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rule_syntax: String,
    /// Higher goes first; 0 means the length of the rule.
    pub priority: i64,
    /// Present: takes only TLS requests. Absent: only clear ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<RouterTls>,
    /// What is recorded of its requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observability: Option<ObservabilitySwitches>,
    /// Tidegate's own: who goes first where requests wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<RouterQueue>,
}

/// `http.routers.NAME.queue`: the place of a router's requests among those that
/// wait for a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RouterQueue {
    /// The lower class goes first; -2047 to 2047 (HAProxy's `set-priority-class`).
    pub class: i16,
    /// Milliseconds by which it counts as having come later; -524287 to 524287
    /// (HAProxy's `set-priority-offset`).
    pub offset: i32,
}

/// `http.routers.NAME.tls`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RouterTls {
    /// The TLS options of its hosts; empty means `default`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub options: String,
    /// The resolver that gets its certificates; empty means none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cert_resolver: String,
    /// The names to get certificates for; empty means those of the rule.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<Domain>,
}

/// A certificate's names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Domain {
    /// The first name.
    pub main: String,
    /// The other names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sans: Vec<String>,
}

/// What is recorded of requests; an absent switch means the entry point's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ObservabilitySwitches {
    /// Lines in the access log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access_logs: Option<bool>,
    /// Prometheus metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<bool>,
}
