//! What the decoder must know about the two configurations: which groups may
//! be empty, and which keys Traefik has beyond ours.
//!
//! Traefik allows a different set of empty groups in files than in flags and
//! labels only by accident of its types; one list serves all here, except that
//! a middleware's options may not be empty anywhere, as in its files.

use tidegate_shared::settings::Dialect;

use super::known;

/// Flags, environment variables and the static file.
pub const STATIC: Dialect<'static> = Dialect {
    allow_empty: &[
        "StaticConfig",
        "Global",
        "EntryPoint",
        "ForwardedHeaders",
        "ProxyProtocol",
        "Transport",
        "LifeCycle",
        "RespondingTimeouts",
        "EntryPointHttp",
        "EntryPointHttp2",
        "EntryPointTls",
        "ObservabilitySwitches",
        "Providers",
        "DockerProvider",
        "SwarmProvider",
        "FileProvider",
        "ClientTls",
        "Api",
        "Ping",
        "Metrics",
        "Prometheus",
        "Log",
        "AccessLog",
        "AccessLogFilters",
        "AccessLogFields",
        "HeaderFields",
        "QueryParameterFields",
        "ServersTransport",
        "ForwardingTimeouts",
        "Core",
        "HttpChallenge",
        "TlsChallenge",
        "DnsChallenge",
        "Propagation",
        "Cluster",
    ],
    is_known: &known::static_key,
};

/// The structs of the dynamic configuration that may be empty. A middleware or
/// service without any kind is such: it is reported when it is built, and only
/// its routers go with it.
pub const DYNAMIC_EMPTY: &[&str] = &[
    "Router",
    "RouterTls",
    "ObservabilitySwitches",
    "Middleware",
    "IpStrategy",
    "Service",
    "ServersTransport",
    "Sticky",
    "StickyCookie",
    "Store",
    "TlsOptions",
];

/// Labels and dynamic files.
pub const DYNAMIC: Dialect<'static> = Dialect {
    allow_empty: DYNAMIC_EMPTY,
    is_known: &known::dynamic_key,
};
