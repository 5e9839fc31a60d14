//! TLS towards clients and towards servers.
//!
//! Owns certificates by name ([`CertificateStore`]), the translation of TLS
//! options into rustls' configurations ([`options`]), and the immutable
//! [`TlsTable`] that picks one of them for a handshake. It does no I/O but
//! reading certificate files, and knows neither routers nor providers.

pub mod client;
pub mod options;
pub mod tickets;

mod certificate;
mod crypto;
mod facts;
mod issued;
mod names;
mod store;
mod table;

pub use certificate::{Certificate, CertificateError, generate_default};
pub use crypto::provider;
pub use facts::Facts;
pub use issued::{Issued, IssuedCertificate, Wanted, WantedCertificate};
pub use names::cipher_suite_name;
pub use store::{CertificateStore, StoreBuilder};
pub use table::{DEFAULT_OPTIONS, HostOptions, TlsTable};

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use rustls::server::ClientHello;

/// Chooses the TLS settings of a connection by what its client says first.
pub trait ServerConfigs: fmt::Debug + Send + Sync {
    /// The settings for this client, or nothing if it must be turned away.
    fn select(&self, hello: &ClientHello<'_>) -> Option<SelectedConfig>;

    /// The settings for an authority that validates a name (RFC 8737), in lower case: asked
    /// for when a client offers `acme-tls/1` and nothing else. It may have to be looked for.
    fn challenge<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Option<Arc<rustls::ServerConfig>>> {
        let _ = name;
        Box::pin(std::future::ready(None))
    }
}

/// The TLS settings of one connection.
#[derive(Clone, Debug)]
pub struct SelectedConfig {
    /// What the handshake is made with.
    pub config: Arc<rustls::ServerConfig>,
    /// The name of the TLS options behind it.
    pub options: Arc<str>,
}
