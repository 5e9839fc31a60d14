//! HTTP services and the way to their servers, as they are written.

use serde::{Deserialize, Serialize};
use tidegate_shared::settings::Interval;

/// `http.services.NAME`: exactly one kind of service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Service {
    /// Spreads requests over servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_balancer: Option<LoadBalancer>,
}

/// `http.services.NAME.loadBalancer`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct LoadBalancer {
    /// The servers.
    pub servers: Vec<Server>,
    /// What labels say of every server of a container or Swarm service; the
    /// provider turns it into [`LoadBalancer::servers`], one for each task.
    #[serde(skip_serializing)]
    pub server: Option<ServerTemplate>,
    /// How a server is chosen.
    pub strategy: Strategy,
    /// Whether the server sees the client's Host header.
    pub pass_host_header: bool,
    /// When parts of a response are sent on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_forwarding: Option<ResponseForwarding>,
    /// The transport to use; empty means the static default.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub servers_transport: String,
    /// Tidegate's own: how requests wait for a server with a free slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
}

impl Default for LoadBalancer {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            server: None,
            strategy: Strategy::default(),
            pass_host_header: true,
            response_forwarding: None,
            servers_transport: String::new(),
            queue: None,
        }
    }
}

/// How a load balancer chooses a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Strategy {
    /// Weighted round robin.
    #[default]
    #[serde(rename = "wrr")]
    WeightedRoundRobin,
    /// The better of two servers drawn at random.
    #[serde(rename = "p2c")]
    PowerOfTwoChoices,
    /// The server with the fewest requests for its weight (Tidegate's own).
    #[serde(rename = "leastconn")]
    LeastConnections,
}

/// One server of a load balancer in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Server {
    /// `http`, `https` or `h2c`, with host and port.
    pub url: String,
    /// The server's share; 0 or less takes it out.
    #[serde(skip_serializing_if = "is_one")]
    pub weight: i64,
    /// Whether the URL's path goes in front of the request's.
    #[serde(skip_serializing_if = "is_false")]
    pub preserve_path: bool,
    /// Tidegate's own: most requests at this server at once; 0 means no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub maxconn: u32,
    /// Tidegate's own: most requests waiting for this very server; 0 means no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub maxqueue: u32,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            url: String::new(),
            weight: 1,
            preserve_path: false,
            maxconn: 0,
            maxqueue: 0,
        }
    }
}

/// `loadbalancer.server.*` labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServerTemplate {
    /// The port that the container listens on.
    pub port: String,
    /// `http`, `https` or `h2c`; empty means `http`.
    pub scheme: String,
    /// A whole URL instead of scheme, address and port.
    pub url: String,
    /// The server's share.
    pub weight: i64,
    /// Whether the URL's path goes in front of the request's.
    pub preserve_path: bool,
    /// Most requests at one server at once; 0 means no limit.
    pub maxconn: u32,
    /// Most requests waiting for one server; 0 means no limit.
    pub maxqueue: u32,
}

impl Default for ServerTemplate {
    fn default() -> Self {
        Self {
            port: String::new(),
            scheme: String::new(),
            url: String::new(),
            weight: 1,
            preserve_path: false,
            maxconn: 0,
            maxqueue: 0,
        }
    }
}

/// `loadBalancer.queue`: how requests wait when every server is full.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Queue {
    /// Most requests waiting for the service; 0 means no limit.
    pub max_length: u32,
    /// Longest wait; 0 means the transport's dial timeout, as in HAProxy.
    pub timeout: Interval,
}

/// `loadBalancer.responseForwarding`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ResponseForwarding {
    /// Longest time that a part of a response may be held back. Tidegate holds
    /// nothing back, so every value is obeyed.
    pub flush_interval: Interval,
}

impl Default for ResponseForwarding {
    fn default() -> Self {
        Self {
            flush_interval: Interval::from_millis(100),
        }
    }
}

/// `http.serversTransports.NAME`, and the static `serversTransport`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ServersTransport {
    /// The name to ask for and to check in the server's certificate.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub server_name: String,
    /// Whether any certificate will do.
    pub insecure_skip_verify: bool,
    /// Files (or PEM text) of the authorities to trust instead of the built-in ones.
    #[serde(rename = "rootCAs", skip_serializing_if = "Vec::is_empty")]
    pub root_cas: Vec<String>,
    /// Certificates to show to servers that ask for one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<Certificate>,
    /// Most idle connections kept for each server, over all workers; 0 means 200
    /// for the static transport and 2 for a named one, as in Traefik.
    pub max_idle_conns_per_host: i64,
    /// Time limits towards servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forwarding_timeouts: Option<ForwardingTimeouts>,
    /// Whether `https` servers are spoken to in HTTP/1.1 only.
    #[serde(rename = "disableHTTP2")]
    pub disable_http2: bool,
}

/// A certificate and its key, each a file name or PEM text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Certificate {
    /// The certificate chain.
    pub cert_file: String,
    /// The private key.
    #[serde(skip_serializing)]
    pub key_file: String,
}

/// `forwardingTimeouts` of a transport.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ForwardingTimeouts {
    /// Longest time to connect; 0 means no limit.
    pub dial_timeout: Interval,
    /// Longest wait for a response's head after the request was sent; 0 means no limit.
    pub response_header_timeout: Interval,
    /// Longest time that a connection is kept without a request; 0 means no limit.
    pub idle_conn_timeout: Interval,
    /// HTTP/2: silence after which a ping is sent; 0 means never.
    pub read_idle_timeout: Interval,
    /// HTTP/2: longest wait for the answer to a ping.
    pub ping_timeout: Interval,
}

impl Default for ForwardingTimeouts {
    fn default() -> Self {
        Self {
            dial_timeout: Interval::from_secs(30),
            response_header_timeout: Interval::default(),
            idle_conn_timeout: Interval::from_secs(90),
            read_idle_timeout: Interval::default(),
            ping_timeout: Interval::from_secs(15),
        }
    }
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde hands a reference to these predicates"
)]
mod skip {
    pub(super) fn is_one(value: &i64) -> bool {
        *value == 1
    }

    pub(super) fn is_zero(value: &u32) -> bool {
        *value == 0
    }

    pub(super) fn is_false(value: &bool) -> bool {
        !*value
    }
}
use skip::{is_false, is_one, is_zero};
