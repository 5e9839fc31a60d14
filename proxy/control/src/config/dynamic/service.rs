//! HTTP services and the way to their servers, as they are written.

use std::collections::BTreeMap;

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
    /// Keeps a client at the server that it came to first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sticky: Option<Sticky>,
    /// Asks servers whether they are well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
    /// Judges servers by how they answer requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passive_health_check: Option<PassiveHealthCheck>,
    /// Tidegate's own: how requests wait for a server with a free slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
    /// Tidegate's own: requests at the service at which servers with a
    /// [`minconn`](Server::minconn) have reached their maxconn (HAProxy's `fullconn`).
    #[serde(skip_serializing_if = "is_zero")]
    pub fullconn: u32,
    /// Tidegate's own: how long a server that came up again takes to its full
    /// limit and weight; 0 means none (HAProxy's `slowstart`).
    #[serde(skip_serializing_if = "is_none")]
    pub slowstart: Interval,
    /// Tidegate's own: whether a request that belongs to a server whose own queue
    /// is full may go to another one (HAProxy's `option redispatch`).
    #[serde(skip_serializing_if = "is_true")]
    pub redispatch: bool,
    /// Tidegate's own: whether a client that leaves while its request waits takes
    /// it out of the queue (HAProxy's `option abortonclose`).
    #[serde(skip_serializing_if = "is_true")]
    pub abortonclose: bool,
    /// Tidegate's own: how long requests wait for a server when there is none, as
    /// in a stop-first update; 0 means not at all.
    #[serde(skip_serializing_if = "is_none")]
    pub holdtime: Interval,
    /// Tidegate's own: bytes of a response that are read ahead of a slow client, so
    /// that a server with a limit is soon free for the next request.
    #[serde(skip_serializing_if = "is_usual_buffer")]
    pub response_buffer: u64,
    /// Tidegate's own: how often a request is sent again at most (HAProxy's `retries`).
    #[serde(skip_serializing_if = "is_usual_retries")]
    pub retries: u32,
    /// Tidegate's own: what is sent again (HAProxy's `retry-on`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub retry_on: Vec<String>,
}

/// Bytes that are read ahead of a slow client unless a service says otherwise.
const DEFAULT_RESPONSE_BUFFER: u64 = 64 * 1024;

/// HAProxy's number of retries.
const DEFAULT_RETRIES: u32 = 3;

impl Default for LoadBalancer {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            server: None,
            strategy: Strategy::default(),
            pass_host_header: true,
            response_forwarding: None,
            servers_transport: String::new(),
            sticky: None,
            health_check: None,
            passive_health_check: None,
            queue: None,
            fullconn: 0,
            slowstart: Interval::default(),
            redispatch: true,
            abortonclose: true,
            holdtime: Interval::default(),
            response_buffer: DEFAULT_RESPONSE_BUFFER,
            retries: DEFAULT_RETRIES,
            retry_on: Vec::new(),
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
    /// Highest random weight: a client's address always leads to the same server.
    #[serde(rename = "hrw")]
    HighestRandomWeight,
    /// The server that is likely to answer soonest.
    #[serde(rename = "leasttime")]
    LeastTime,
    /// Any server, by chance and weight (Tidegate's own).
    #[serde(rename = "random")]
    Random,
    /// The first server that is not full (Tidegate's own).
    #[serde(rename = "first")]
    First,
}

/// One server of a load balancer in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Server {
    /// `http`, `https` or `h2c`, with host and port.
    pub url: String,
    /// The server's share. 0 drains it: it gets only requests that are bound to it;
    /// less than 0 takes it out.
    #[serde(skip_serializing_if = "is_one")]
    pub weight: i64,
    /// Whether the URL's path goes in front of the request's.
    #[serde(skip_serializing_if = "is_false")]
    pub preserve_path: bool,
    /// Tidegate's own: most requests at this server at once; 0 means no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub maxconn: u32,
    /// Tidegate's own: the least that a dynamic limit falls to while the service is idle, where
    /// `maxconn` is its most; 0 means that the limit is fixed.
    #[serde(skip_serializing_if = "is_zero")]
    pub minconn: u32,
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
            minconn: 0,
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
    /// The least that a dynamic limit falls to while the service is idle, where
    /// `maxconn` is its most; 0 means that the limit is fixed.
    pub minconn: u32,
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
            minconn: 0,
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
    /// The answer when the queue is full: 503, which 0 stands for, or 429.
    #[serde(skip_serializing_if = "is_unset")]
    pub full_status: u16,
    /// The answer when the wait was too long: 503, which 0 stands for, or 429.
    #[serde(skip_serializing_if = "is_unset")]
    pub timeout_status: u16,
    /// What such an answer says in `Retry-After`, in whole seconds; 0 means nothing.
    #[serde(skip_serializing_if = "is_none")]
    pub retry_after: Interval,
}

/// `loadBalancer.sticky`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Sticky {
    /// By a cookie, the only way there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<StickyCookie>,
}

/// `sticky.cookie`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct StickyCookie {
    /// Its name; empty means one made of the service's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Whether it goes over TLS only.
    #[serde(skip_serializing_if = "is_false")]
    pub secure: bool,
    /// Whether scripts can't see it.
    #[serde(skip_serializing_if = "is_false")]
    pub http_only: bool,
    /// `none`, `lax` or `strict`; empty means that it is not said.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub same_site: String,
    /// Seconds that it lives; 0 means for the session, less than 0 not at all.
    #[serde(skip_serializing_if = "is_nought")]
    pub max_age: i64,
    /// Where on the site it holds.
    pub path: String,
    /// On which hosts; empty means on this one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
}

impl Default for StickyCookie {
    fn default() -> Self {
        Self {
            name: String::new(),
            secure: false,
            http_only: false,
            same_site: String::new(),
            max_age: 0,
            path: "/".to_owned(),
            domain: String::new(),
        }
    }
}

/// `loadBalancer.healthCheck`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HealthCheck {
    /// `http`, `https` or `h2c`; empty means the server's own.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scheme: String,
    /// `http`, `grpc`, or Tidegate's own `tcp`; empty means `http`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mode: String,
    /// The path to ask for, with a query if wanted.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// The method; empty means `GET`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub method: String,
    /// The one good status; 0 means any from 200 to 399.
    #[serde(skip_serializing_if = "is_unset")]
    pub status: u16,
    /// The port to ask at; 0 means the server's own.
    #[serde(skip_serializing_if = "is_unset")]
    pub port: u16,
    /// Time between two checks of a server that is up.
    pub interval: Interval,
    /// The same of one that is down; absent means the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unhealthy_interval: Option<Interval>,
    /// Longest time for one check.
    pub timeout: Interval,
    /// The host to ask for; empty means the server's own.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// Whether the answer counts that a redirect leads to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub follow_redirects: Option<bool>,
    /// Headers of the request.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Tidegate's own: good answers in a row that make a server up; 0 means 1.
    #[serde(skip_serializing_if = "is_zero")]
    pub rise: u32,
    /// Tidegate's own: bad ones in a row that make it down; 0 means 1.
    #[serde(skip_serializing_if = "is_zero")]
    pub fall: u32,
    /// Tidegate's own: `up`, which empty stands for, or `down`: whether a new server
    /// gets requests before its first good check (HAProxy's `init-state`).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub init_state: String,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            scheme: String::new(),
            mode: String::new(),
            path: String::new(),
            method: String::new(),
            status: 0,
            port: 0,
            interval: Interval::from_secs(30),
            unhealthy_interval: None,
            timeout: Interval::from_secs(5),
            hostname: String::new(),
            follow_redirects: None,
            headers: BTreeMap::new(),
            rise: 0,
            fall: 0,
            init_state: String::new(),
        }
    }
}

/// `loadBalancer.passiveHealthCheck`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PassiveHealthCheck {
    /// In which failures are counted, and for which a server stays out.
    pub failure_window: Interval,
    /// How many take a server out.
    pub max_failed_attempts: u32,
}

impl Default for PassiveHealthCheck {
    fn default() -> Self {
        Self {
            failure_window: Interval::from_secs(10),
            max_failed_attempts: 1,
        }
    }
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
    use super::{DEFAULT_RESPONSE_BUFFER, DEFAULT_RETRIES, Interval};

    pub(super) fn is_one(value: &i64) -> bool {
        *value == 1
    }

    pub(super) fn is_zero(value: &u32) -> bool {
        *value == 0
    }

    pub(super) fn is_nought(value: &i64) -> bool {
        *value == 0
    }

    pub(super) fn is_unset(value: &u16) -> bool {
        *value == 0
    }

    pub(super) fn is_false(value: &bool) -> bool {
        !*value
    }

    pub(super) fn is_true(value: &bool) -> bool {
        *value
    }

    pub(super) fn is_none(value: &Interval) -> bool {
        value.0.is_zero()
    }

    pub(super) fn is_usual_buffer(value: &u64) -> bool {
        *value == DEFAULT_RESPONSE_BUFFER
    }

    pub(super) fn is_usual_retries(value: &u32) -> bool {
        *value == DEFAULT_RETRIES
    }
}
use skip::{
    is_false, is_none, is_nought, is_one, is_true, is_unset, is_usual_buffer, is_usual_retries,
    is_zero,
};
