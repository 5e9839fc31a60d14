//! Tidegate's proxy: TLS in, labels for configuration, a strict limit per server.
//!
//! The modules lie in layers and use only lower ones (`ARCHITECTURE.md` draws
//! them; a test keeps them): [`config`] at the bottom, then the parts that move
//! bytes ([`http`]), and on top what puts them together.

pub mod config;
pub mod http;
pub mod middleware;
pub mod provider;
