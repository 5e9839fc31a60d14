//! Which TLS settings a client gets.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::ClientHello;

use super::crypto::likes_chacha;
use super::{CertificateStore, SelectedConfig};

/// The name of the TLS options that apply where a router names none.
pub const DEFAULT_OPTIONS: &str = "default";

/// TLS options as a host has them.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// Their full name.
    pub name: Arc<str>,
    /// What handshakes are made with. There is nothing if they can't be obeyed: then
    /// clients are turned away, because they may have been a guard. So does Traefik.
    pub config: Option<Arc<ServerConfig>>,
    /// Whether a client whose name no certificate fits is turned away.
    pub is_strict: bool,
}

/// The TLS side of one snapshot: which options hosts have on which entry point.
pub struct TlsTable {
    /// The certificates that all settings serve.
    pub store: Arc<CertificateStore>,
    default: HostOptions,
    by_entry_point: HashMap<Box<str>, Hosts>,
}

/// The hosts that don't have the default options.
#[derive(Debug, Default)]
struct Hosts {
    by_name: HashMap<Box<str>, HostOptions>,
    /// By what follows the first label, its dot included.
    by_parent: HashMap<Box<str>, HostOptions>,
}

impl Hosts {
    fn find(&self, host: &str) -> Option<&HostOptions> {
        self.by_name.get(host).or_else(|| {
            let parent = host.get(host.find('.')?..)?;
            self.by_parent.get(parent)
        })
    }
}

impl TlsTable {
    /// A table with the `default` options only.
    pub fn new(store: Arc<CertificateStore>, default: HostOptions) -> Self {
        Self {
            store,
            default,
            by_entry_point: HashMap::new(),
        }
    }

    /// Gives a host, in lower case, options other than the default on an entry point.
    /// `*.` in front stands for any one label.
    pub fn insert(&mut self, entry_point: &str, host: &str, options: HostOptions) {
        let hosts = self.by_entry_point.entry(entry_point.into()).or_default();
        match host.strip_prefix('*') {
            Some(parent) if parent.starts_with('.') => {
                hosts.by_parent.insert(parent.into(), options);
            }
            _ => {
                hosts.by_name.insert(host.into(), options);
            }
        }
    }

    /// The options of a host in lower case. A host that no router names gets the default.
    pub fn of_host(&self, entry_point: &str, host: &str) -> &HostOptions {
        let hosts = self.by_entry_point.get(entry_point);
        let found = hosts.and_then(|hosts| hosts.find(host));
        found.unwrap_or(&self.default)
    }

    /// The settings for a client of an entry point, or nothing if it must be turned away.
    pub fn select(&self, entry_point: &str, hello: &ClientHello<'_>) -> Option<SelectedConfig> {
        let name = hello.server_name();
        let options = name.map_or(&self.default, |name| self.of_host(entry_point, name));
        if options.is_strict && name.and_then(|name| self.store.find(name)).is_none() {
            return None;
        }
        let mut config = Arc::clone(options.config.as_ref()?);
        // What is changed is copied. Few clients need it, and next to a handshake it costs
        // nothing.
        if likes_chacha(hello.cipher_suites()) {
            Arc::make_mut(&mut config).ignore_client_order = false;
        }
        let offered: Vec<&[u8]> = hello.alpn().into_iter().flatten().collect();
        if has_http1_only(&config.alpn_protocols, &offered) {
            Arc::make_mut(&mut config).alpn_protocols.clear();
        }
        Some(SelectedConfig {
            config,
            options: Arc::clone(&options.name),
        })
    }
}

/// Whether a client speaks HTTP/1.1 where only HTTP/2 is offered. As with Go's server it
/// gets in, with no protocol agreed upon.
fn has_http1_only(ours: &[Vec<u8>], offered: &[&[u8]]) -> bool {
    let is_offered = |name: &[u8]| offered.contains(&name);
    is_offered(b"http/1.1")
        && ours.iter().any(|name| name == b"h2")
        && !ours.iter().any(|name| is_offered(name))
}

impl fmt::Debug for TlsTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsTable")
            .field("entry_points", &self.by_entry_point)
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

    fn table(written: &TlsOptions) -> TlsTable {
        let provider = Arc::new(provider());
        let default = Arc::new(generate_default(&provider).unwrap());
        let store = Arc::new(StoreBuilder::default().build(default));
        let config = options::server_config(written, &provider, Arc::clone(&store), None);
        let default = HostOptions {
            name: DEFAULT_OPTIONS.into(),
            config: Some(Arc::new(config.unwrap())),
            is_strict: written.sni_strict,
        };
        TlsTable::new(store, default)
    }

    fn named(name: &str) -> HostOptions {
        HostOptions {
            name: name.into(),
            ..table(&TlsOptions::default()).default
        }
    }

    /// What a client gets that asks for a name on an entry point, offering protocols.
    fn select(
        table: &TlsTable,
        entry_point: &str,
        name: &str,
        protocols: &[&str],
    ) -> Option<SelectedConfig> {
        let mut config = client(rustls::crypto::ring::default_provider());
        config.alpn_protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        hello(config, name, |hello| table.select(entry_point, hello))
    }

    fn client(provider: rustls::crypto::CryptoProvider) -> ClientConfig {
        let provider = Arc::new(provider);
        ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth()
    }

    fn hello<T>(config: ClientConfig, name: &str, look: impl Fn(&ClientHello<'_>) -> T) -> T {
        let name = name.to_owned().try_into().unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        let mut acceptor = Acceptor::default();
        acceptor.read_tls(&mut hello.as_slice()).unwrap();
        let Ok(Some(accepted)) = acceptor.accept() else {
            panic!("no hello");
        };
        look(&accepted.client_hello())
    }

    #[test]
    fn hosts_have_their_options_on_their_entry_point() {
        let mut table = table(&TlsOptions::default());
        table.insert("a", "x.example", named("one"));
        table.insert("a", "*.x.example", named("any"));
        table.insert("b", "x.example", named("two"));
        let broken = HostOptions {
            config: None,
            ..named("broken")
        };
        table.insert("b", "y.example", broken);
        for (entry_point, host, expected) in [
            ("a", "x.example", Some("one")),
            ("a", "1.x.example", Some("any")),
            ("a", "2.1.x.example", Some(DEFAULT_OPTIONS)),
            ("a", "y.example", Some(DEFAULT_OPTIONS)),
            ("b", "x.example", Some("two")),
            ("b", "1.x.example", Some(DEFAULT_OPTIONS)),
            ("b", "y.example", None),
            ("c", "x.example", Some(DEFAULT_OPTIONS)),
        ] {
            let selected = select(&table, entry_point, host, &[]);
            let name = selected.map(|selected| selected.options);
            assert_eq!(name.as_deref(), expected, "{entry_point} {host}");
        }
        assert_eq!(&*table.of_host("b", "y.example").name, "broken");
    }

    #[test]
    fn strict_names_need_a_certificate() {
        for is_strict in [false, true] {
            let table = table(&TlsOptions {
                sni_strict: is_strict,
                ..TlsOptions::default()
            });
            // No certificate fits either, and an address is no name at all.
            for name in ["a.example", "192.0.2.1"] {
                let selected = select(&table, "a", name, &[]);
                assert_eq!(selected.is_none(), is_strict, "{name}");
            }
        }
    }

    #[test]
    fn who_speaks_no_http2_agrees_on_nothing_where_only_that_is_offered() {
        let of = |ours: &[&str], theirs: &[&str]| {
            let table = table(&TlsOptions {
                alpn_protocols: ours.iter().map(|&name| name.to_owned()).collect(),
                ..TlsOptions::default()
            });
            let selected = select(&table, "a", "a.example", theirs).unwrap();
            selected.config.alpn_protocols.is_empty()
        };
        assert!(of(&["h2"], &["http/1.1"]));
        assert!(of(&["h2"], &["foo", "http/1.1"]));
        assert!(!of(&["h2"], &["http/1.1", "h2"]));
        assert!(!of(&["h2"], &["foo"]));
        assert!(!of(&["h2", "http/1.1"], &["http/1.1"]));
        assert!(!of(&["http/1.1"], &["h2"]));
    }

    /// Whether a client that offers these suites has its own order respected.
    fn is_heeded(table: &TlsTable, suites: &[CipherSuite]) -> bool {
        let mut provider = rustls::crypto::ring::default_provider();
        let rank = |suite| suites.iter().position(|known| *known == suite);
        provider.cipher_suites.retain(|s| rank(s.suite()).is_some());
        provider.cipher_suites.sort_by_key(|s| rank(s.suite()));
        let selected = hello(client(provider), "a.example", |hello| {
            table.select("a", hello)
        });
        let selected = selected.unwrap();
        assert_eq!(&*selected.options, DEFAULT_OPTIONS);
        !selected.config.ignore_client_order
    }

    #[test]
    fn clients_that_like_chacha_get_it() {
        let aes = CipherSuite::TLS13_AES_128_GCM_SHA256;
        let chacha = CipherSuite::TLS13_CHACHA20_POLY1305_SHA256;
        let table = table(&TlsOptions::default());
        assert!(is_heeded(&table, &[chacha, aes]));
        assert!(!is_heeded(&table, &[aes, chacha]));
    }
}
