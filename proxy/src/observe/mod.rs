//! What is seen of the proxy at work: log, access log, metrics.
//!
//! The request path hands in finished exchanges; this module counts them and
//! queues a line for the access log. It is called by the path and calls nothing
//! back, takes no lock there, and never makes a request wait: a line that finds
//! the queue full is dropped and counted. Live state (servers, queues,
//! certificates) is asked for when metrics are scraped, through [`LiveState`].

pub mod access_log;
pub mod log;
pub mod metrics;
mod record;
mod termination;

pub use access_log::{AccessLog, AccessLogError};
pub use metrics::{
    CertificateSample, ConnectionSample, EntryPointScope, LiveState, MeshSample, Metrics,
    MetricsError, ProviderSample, ResolverSample, Scope, ServerSample, ServiceSample, ServiceScope,
};
pub use record::{Recorder, RouteScopes};
