//! What Tidegate's proxy and director have in common.
//!
//! Owns the parts that know neither HTTP routing nor IPVS: settings and where
//! they came from, the Docker engine, PROXY protocol, sockets, shutdown,
//! logging. It depends on no other crate of ours; the proxy and the director
//! never import each other, so what they say to each other is a type in here.

pub mod any_certificate;
pub mod backoff;
pub mod docker;
pub mod heartbeat;
pub mod listen;
pub mod proxy_protocol;
pub mod report;
pub mod settings;
pub mod shutdown;
