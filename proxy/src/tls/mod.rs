//! TLS towards clients: which configuration a handshake gets.
//!
//! Owns the one trait by which an entry point asks. The entry point reads the
//! ClientHello first and asks then, so a change of certificates takes effect
//! with the next handshake. No I/O happens in here.

use std::fmt;
use std::sync::Arc;

/// Chooses the TLS configuration of a handshake.
pub trait ServerConfigs: fmt::Debug + Send + Sync {
    /// The configuration for a client that said `hello`; nothing refuses the
    /// handshake with the alert `unrecognized_name`.
    fn select(&self, hello: &rustls::server::ClientHello<'_>) -> Option<SelectedConfig>;
}

/// A TLS configuration and the name of the options it was made from.
#[derive(Clone, Debug)]
pub struct SelectedConfig {
    /// What the handshake is done with.
    pub config: Arc<rustls::ServerConfig>,
    /// `name@provider`, or `default`.
    pub options: Arc<str>,
}
