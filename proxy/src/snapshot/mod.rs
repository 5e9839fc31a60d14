//! What the data plane works with: one immutable value, swapped as a whole.
//!
//! [`Builder`] turns the merged dynamic configuration into a [`Snapshot`]: it is
//! the only door, and behind it there is no unknown service and no unparsed
//! rule. What must outlive a configuration (servers' counts and queues, pools,
//! loaded certificates) lives in the [`Registry`]. It knows no providers.

mod build;
mod certificates;
mod middleware;
mod names;
mod registry;
mod report;
mod router;
mod service;
mod tls;
mod wanted;

pub use build::{Builder, Internals};
pub use registry::Registry;
pub use report::{MiddlewareReport, Outcome, Report, RouterReport, ServiceReport, Status};

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::health::Checks;
use crate::http::{Priority, SharedService};
use crate::observe::RouteScopes;
use crate::routing::RoutingTable;
use crate::tls::{TlsTable, Wanted};

/// Everything that a request or a handshake needs to know of the configuration.
pub struct Snapshot {
    /// Counts configurations, from 1; 0 is the empty one before the first.
    pub generation: u64,
    /// Where requests go, by entry point. There are few, so they are looked for.
    pub entry_points: Vec<(Arc<str>, EntryPointTables)>,
    /// Certificates and TLS settings.
    pub tls: TlsTable,
    /// What certificate resolvers are asked for. The same value for as long as nothing
    /// changes in it.
    pub wanted: Arc<Wanted>,
    /// What is to be done about the health of servers.
    pub checks: Checks,
    /// What became of each configured object.
    pub report: Report,
}

/// The routers of one entry point.
#[derive(Debug, Default)]
pub struct EntryPointTables {
    /// Those that take clear requests.
    pub clear: RoutingTable<Target>,
    /// Those that take requests over TLS.
    pub encrypted: RoutingTable<Target>,
}

/// Where a router leads.
#[derive(Debug)]
pub struct Target {
    /// The router's middlewares and its service, as one.
    pub service: SharedService,
    /// The place of its requests among those that wait for a server.
    pub priority: Priority,
    /// What is recorded of its requests, and where.
    pub scopes: Arc<RouteScopes>,
}

/// The snapshot in force.
pub type SnapshotCell = ArcSwap<Snapshot>;

impl Snapshot {
    /// The routers of an entry point.
    pub fn tables(&self, entry_point: &str) -> Option<&EntryPointTables> {
        let mut tables = self.entry_points.iter();
        tables
            .find(|(name, _)| **name == *entry_point)
            .map(|(_, tables)| tables)
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("generation", &self.generation)
            .field("entry_points", &self.entry_points.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
