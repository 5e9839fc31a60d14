//! Which TLS settings a client gets.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::ClientHello;

use super::crypto::likes_chacha;
use super::{CertificateStore, SelectedConfig, ServerConfigs};

/// The name of the TLS options that apply where a router names none.
pub const DEFAULT_OPTIONS: &str = "default";

/// The TLS side of one snapshot: settings by options name, options by host.
pub struct TlsTable {
    /// The certificates that all settings serve.
    pub store: Arc<CertificateStore>,
    default: SelectedConfig,
    by_host: HashMap<Box<str>, SelectedConfig>,
    /// By what follows the first label, its dot included.
    by_parent: HashMap<Box<str>, SelectedConfig>,
}

impl TlsTable {
    /// A table with the `default` options only.
    pub fn new(store: Arc<CertificateStore>, default: Arc<ServerConfig>) -> Self {
        Self {
            store,
            default: SelectedConfig {
                config: default,
                options: DEFAULT_OPTIONS.into(),
            },
            by_host: HashMap::new(),
            by_parent: HashMap::new(),
        }
    }

    /// Gives a host, in lower case, settings other than the default. `*.` in
    /// front stands for any one label.
    pub fn insert(&mut self, host: &str, selected: SelectedConfig) {
        match host.strip_prefix('*') {
            Some(parent) if parent.starts_with('.') => {
                self.by_parent.insert(parent.into(), selected);
            }
            _ => {
                self.by_host.insert(host.into(), selected);
            }
        }
    }

    /// The settings of a host in lower case. A host that no router names gets the default.
    pub fn of_host(&self, host: &str) -> &SelectedConfig {
        self.by_host
            .get(host)
            .or_else(|| {
                let parent = host.get(host.find('.')?..)?;
                self.by_parent.get(parent)
            })
            .unwrap_or(&self.default)
    }
}

impl ServerConfigs for TlsTable {
    fn select(&self, hello: &ClientHello<'_>) -> Option<SelectedConfig> {
        let selected = hello
            .server_name()
            .map_or(&self.default, |name| self.of_host(name));
        let mut selected = selected.clone();
        if likes_chacha(hello.cipher_suites()) {
            selected.config = in_clients_order(&selected.config);
        }
        Some(selected)
    }
}

/// The same settings for a client whose order of cipher suites counts. Few clients
/// ask for it, and next to a handshake the copy costs nothing.
fn in_clients_order(config: &ServerConfig) -> Arc<ServerConfig> {
    let mut config = config.clone();
    config.ignore_client_order = false;
    Arc::new(config)
}

impl fmt::Debug for TlsTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsTable")
            .field("hosts", &self.by_host.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rustls::CipherSuite;
    use rustls::client::ClientConfig;
    use rustls::server::Acceptor;
    use tidegate_shared::any_certificate::AnyCertificate;

    use super::*;
    use crate::config::dynamic::TlsOptions;
    use crate::tls::{StoreBuilder, generate_default, options, provider};

    fn table() -> TlsTable {
        let provider = Arc::new(provider());
        let default = Arc::new(generate_default(&provider).unwrap());
        let store = Arc::new(StoreBuilder::default().build(default));
        let written = TlsOptions::default();
        let config = options::server_config(&written, &provider, Arc::clone(&store), None);
        TlsTable::new(store, Arc::new(config.unwrap()))
    }

    /// Whether a client that offers these suites has its own order respected.
    fn is_heeded(table: &TlsTable, suites: &[CipherSuite]) -> bool {
        let mut provider = rustls::crypto::ring::default_provider();
        let rank = |suite| suites.iter().position(|known| *known == suite);
        provider.cipher_suites.retain(|s| rank(s.suite()).is_some());
        provider.cipher_suites.sort_by_key(|s| rank(s.suite()));
        let provider = Arc::new(provider);
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        let name = "a.example".try_into().unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        let mut acceptor = Acceptor::default();
        acceptor.read_tls(&mut hello.as_slice()).unwrap();
        let Ok(Some(accepted)) = acceptor.accept() else {
            panic!("no hello");
        };
        let selected = table.select(&accepted.client_hello()).unwrap();
        assert_eq!(&*selected.options, DEFAULT_OPTIONS);
        !selected.config.ignore_client_order
    }

    #[test]
    fn clients_that_like_chacha_get_it() {
        let aes = CipherSuite::TLS13_AES_128_GCM_SHA256;
        let chacha = CipherSuite::TLS13_CHACHA20_POLY1305_SHA256;
        let table = table();
        assert!(is_heeded(&table, &[chacha, aes]));
        assert!(!is_heeded(&table, &[aes, chacha]));
    }
}
