//! Tidegate's proxy: TLS in, labels for configuration, a strict limit per server.
//!
//! The modules lie in layers and use only lower ones (`ARCHITECTURE.md` draws
//! them; a test keeps them): [`config`], [`rule`] and [`balance`] at the bottom,
//! then the parts that move bytes ([`http`], [`routing`], [`tls`], [`upstream`],
//! [`observe`], [`health`]), then [`service`] and [`middleware`], then [`snapshot`], which
//! puts them together, and on top what talks to the world: [`provider`] and
//! [`entry_point`]. [`app`] makes it all.
//!
//! What tells the proxy what to do and serves no request itself is a crate of its own,
//! `tidegate-control`, and appears here as if it were modules of this one.

pub use tidegate_control::{acme, cluster, config, provider, tls};

pub mod admin;
pub mod app;
pub mod balance;
mod clock;
pub mod entry_point;
pub mod health;
pub mod healthcheck;
pub mod http;
pub mod middleware;
pub mod observe;
pub mod routing;
pub mod rule;
pub mod service;
pub mod snapshot;
mod socket;
pub mod upstream;
