//! Which TLS settings a client gets.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::ClientHello;

use super::{CertificateStore, SelectedConfig, ServerConfigs};

/// The name of the TLS options that apply where a router names none.
pub const DEFAULT_OPTIONS: &str = "default";

/// The TLS side of one snapshot: settings by options name, options by host.
pub struct TlsTable {
    /// The certificates that all settings serve.
    pub store: Arc<CertificateStore>,
    default: SelectedConfig,
    by_host: HashMap<Box<str>, SelectedConfig>,
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
        }
    }

    /// Gives a host, in lower case, settings other than the default.
    pub fn insert(&mut self, host: &str, selected: SelectedConfig) {
        self.by_host.insert(host.into(), selected);
    }

    /// The settings of a host in lower case. A host that no router names gets the default.
    pub fn of_host(&self, host: &str) -> &SelectedConfig {
        self.by_host.get(host).unwrap_or(&self.default)
    }
}

impl ServerConfigs for TlsTable {
    fn select(&self, hello: &ClientHello<'_>) -> Option<SelectedConfig> {
        let selected = hello
            .server_name()
            .map_or(&self.default, |name| self.of_host(name));
        Some(selected.clone())
    }
}

impl fmt::Debug for TlsTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsTable")
            .field("hosts", &self.by_host.len())
            .finish_non_exhaustive()
    }
}
