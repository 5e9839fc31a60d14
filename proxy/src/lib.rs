//! Tidegate's proxy: TLS in, labels for configuration, a strict limit per server.
//!
//! The modules lie in layers and use only lower ones (`ARCHITECTURE.md` draws
//! them; a test keeps them): [`config`], [`rule`] and [`balance`] at the bottom,
//! then the parts that move bytes ([`http`], [`routing`], [`tls`]), and on top
//! what puts them together.

pub mod admin;
pub mod balance;
pub mod config;
pub mod http;
pub mod observe;
pub mod provider;
pub mod routing;
pub mod rule;
pub mod tls;
