//! Services that answer for the proxy itself: `api@internal`,
//! `dashboard@internal`, `ping@internal`, `prometheus@internal`, `noop@internal`.
//!
//! Everything here only reads. What the API shows comes from an [`ApiSource`]
//! as a plain [`ApiView`]; paths, keys and errors are Traefik's, and what only
//! Tidegate knows stands under the key `tidegate`. Work that grows with the
//! configuration runs on the runtime's blocking threads, a few at a time, so
//! that nobody who asks holds up the traffic of a worker.

mod api;
mod cluster;
mod dashboard;
mod listing;
mod metrics;
mod noop;
mod ping;
mod query;
mod reply;
mod resolvers;
mod view;

pub use api::{ApiService, ProcessFacts};
pub use cluster::{ClusterView, MemberView, ProviderView};
pub use dashboard::DashboardService;
pub use metrics::PrometheusService;
pub use noop::NoopService;
pub use ping::{PingService, Terminating};
pub use resolvers::{BrokenView, PauseView, ResolverView, StoreView, WantedView};
pub use view::{
    ApiSource, ApiView, CertificateView, ConnectionsView, MiddlewareView, QueueView, RouterView,
    ServerView, ServiceView, Status,
};

#[cfg(test)]
mod tests;
