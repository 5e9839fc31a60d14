//! Certificates from authorities that speak ACME (RFC 8555).
//!
//! A *resolver* is one `certificatesResolvers` entry. Its loop ([`resolver`])
//! compares the names that routers want with what its [`store`] holds, asks the
//! authority ([`authority`]) for what is missing or about to end, and shows the
//! outcome as [`crate::tls::Issued`]. Several proxies share a store; whoever holds
//! a name's lock orders it, and challenges lie where every proxy finds them
//! ([`challenge`]). Nothing here serves a connection.

pub mod authority;
pub mod challenge;
pub mod dns;
pub mod https;
pub mod resolver;
pub mod store;
