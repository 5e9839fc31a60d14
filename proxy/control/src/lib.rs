//! What tells the proxy what to do: [`config`], its sources ([`provider`]), certificates
//! ([`tls`], [`acme`]) and the other proxies ([`cluster`]).
//!
//! Nothing here serves a request, so it is a crate apart: built for size, and out of the
//! way of the code that does. Its modules are those of the proxy's layers, and
//! `tidegate-proxy` shows them under the same names (`ARCHITECTURE.md`).

pub mod acme;
pub mod cluster;
pub mod config;
pub mod provider;
pub mod tls;
