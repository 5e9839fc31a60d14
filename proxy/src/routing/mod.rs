//! Finds the router of a request.
//!
//! `table` holds the routers in their order of precedence behind an index by
//! host; `path` and `host` bring a request's target and `Host` into the forms
//! which rules are matched against and servers are sent. Knows nothing of
//! providers, middlewares or services: the table is generic over what a
//! router leads to. Called by `snapshot` and `entry_point`.

pub mod host;
mod host_index;
pub mod path;
pub mod table;

pub use self::table::{Route, RoutingTable};
