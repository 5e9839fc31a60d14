use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::crypto::ring;
use rustls::{CipherSuite, ClientConfig, ClientConnection, HandshakeKind, ServerConnection};
use rustls_pki_types::ServerName;
use tidegate_shared::any_certificate::AnyCertificate;

use super::*;
use crate::tls::tickets::{Tickets, keep_alone};
use crate::tls::{StoreBuilder, generate_default};

mod client_auth;

fn store(provider: &CryptoProvider) -> Arc<CertificateStore> {
    let default = Arc::new(generate_default(provider).unwrap());
    Arc::new(StoreBuilder::default().build(default))
}

fn build(options: &TlsOptions) -> Result<ServerConfig, OptionsError> {
    let provider = Arc::new(ring::default_provider());
    let store = store(&provider);
    server_config(options, &provider, store, None)
}

fn client(version: &'static SupportedProtocolVersion, suites: &[CipherSuite]) -> ClientConfig {
    let mut provider = ring::default_provider();
    if !suites.is_empty() {
        let known = |suite| ring::ALL_CIPHER_SUITES.iter().find(|s| s.suite() == suite);
        provider.cipher_suites = suites.iter().filter_map(|s| known(*s).copied()).collect();
        assert_eq!(provider.cipher_suites.len(), suites.len());
    }
    let provider = Arc::new(provider);
    ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth()
}

/// Both ends of a finished handshake.
fn shake_hands(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
) -> (ClientConnection, ServerConnection) {
    try_to_shake_hands(client, server, "a.example").unwrap()
}

/// Both ends of a handshake, or what one of them has against it.
fn try_to_shake_hands(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
    name: &'static str,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let name = name.try_into().unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    while client.wants_write() || server.wants_write() {
        let mut flight = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut flight).unwrap();
        }
        let mut rest = flight.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets()?;
        }
        let mut flight = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut flight).unwrap();
        }
        let mut rest = flight.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets()?;
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((client, server))
}

#[test]
fn names_the_key_that_cannot_be_obeyed() {
    let base = TlsOptions::default;
    let cases = [
        (
            TlsOptions {
                min_version: "VersionTLS14".to_owned(),
                ..base()
            },
            "minVersion",
        ),
        (
            TlsOptions {
                max_version: "VersionTLS11".to_owned(),
                ..base()
            },
            "maxVersion",
        ),
        (
            TlsOptions {
                min_version: "VersionTLS13".to_owned(),
                max_version: "VersionTLS12".to_owned(),
                ..base()
            },
            "maxVersion",
        ),
        (
            TlsOptions {
                cipher_suites: vec!["TLS_ECDHE_RSA_WITH_MAGIC".to_owned()],
                ..base()
            },
            "cipherSuites",
        ),
        (
            TlsOptions {
                curve_preferences: vec!["CurveP521".to_owned()],
                ..base()
            },
            "curvePreferences",
        ),
        (
            TlsOptions {
                client_auth: ClientAuth {
                    ca_files: Vec::new(),
                    client_auth_type: Some(ClientAuthType::RequireAndVerifyClientCert),
                },
                ..base()
            },
            "clientAuth.caFiles",
        ),
    ];
    for (options, key) in cases {
        let error = build(&options).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn builds_what_traefik_users_write() {
    let options = TlsOptions {
        min_version: "VersionTLS12".to_owned(),
        cipher_suites: vec![
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".to_owned(),
            "TLS_AES_128_GCM_SHA256".to_owned(),
        ],
        curve_preferences: vec!["CurveP256".to_owned(), "secp384r1".to_owned()],
        client_auth: ClientAuth {
            ca_files: Vec::new(),
            client_auth_type: Some(ClientAuthType::RequestClientCert),
        },
        ..TlsOptions::default()
    };
    let config = build(&options).unwrap();
    assert_eq!(
        config.alpn_protocols,
        [b"h2".to_vec(), b"http/1.1".to_vec()]
    );
}

const AES: CipherSuite = CipherSuite::TLS13_AES_128_GCM_SHA256;
const AES_256: CipherSuite = CipherSuite::TLS13_AES_256_GCM_SHA384;
const CHACHA: CipherSuite = CipherSuite::TLS13_CHACHA20_POLY1305_SHA256;
const OLD_AES: CipherSuite = CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
const OLD_AES_256: CipherSuite = CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384;
const OLD_CHACHA: CipherSuite = CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256;

#[test]
fn the_suite_is_the_one_that_suits_the_machine() {
    let (new, old) = (&rustls::version::TLS13, &rustls::version::TLS12);
    let rows: [(_, &[CipherSuite], bool, CipherSuite); 8] = [
        (new, &[AES_256, CHACHA, AES], true, AES),
        (new, &[AES_256, CHACHA], true, AES_256),
        (new, &[AES_256, AES, CHACHA], false, CHACHA),
        (new, &[AES_256, AES], false, AES),
        (old, &[OLD_AES_256, OLD_AES, OLD_CHACHA], true, OLD_AES),
        (old, &[OLD_AES_256, OLD_CHACHA], true, OLD_AES_256),
        (old, &[OLD_AES, OLD_CHACHA], false, OLD_CHACHA),
        (old, &[OLD_AES], false, OLD_AES),
    ];
    for (version, offered, has_aes, expected) in rows {
        assert_eq!(
            choose(&TlsOptions::default(), version, offered, has_aes),
            expected,
            "{offered:?}, {has_aes}"
        );
    }
}

#[test]
fn written_suites_are_a_set_without_an_order() {
    let options = TlsOptions {
        cipher_suites: vec![
            "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384".to_owned(),
            "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256".to_owned(),
        ],
        ..TlsOptions::default()
    };
    let (new, old) = (&rustls::version::TLS13, &rustls::version::TLS12);
    let offered = [OLD_AES, OLD_CHACHA, OLD_AES_256];
    assert_eq!(choose(&options, old, &offered, true), OLD_AES_256);
    assert_eq!(choose(&options, old, &offered, false), OLD_CHACHA);
    assert_eq!(choose(&options, new, &[AES, CHACHA], false), CHACHA);
}

fn choose(
    options: &TlsOptions,
    version: &'static SupportedProtocolVersion,
    offered: &[CipherSuite],
    has_aes: bool,
) -> CipherSuite {
    let provider = ring::default_provider();
    let store = store(&provider);
    let server = with_order(options, &provider, store, has_aes).unwrap();
    let (_, server) = shake_hands(&Arc::new(client(version, offered)), &Arc::new(server));
    server.negotiated_cipher_suite().unwrap().suite()
}

#[test]
fn one_ticket_resumes_a_session_in_later_configurations() {
    let provider = Arc::new(ring::default_provider());
    let tickets = tickets();
    let server = || {
        let tickets = Some(tickets.of_group("default"));
        let options = TlsOptions::default();
        Arc::new(server_config(&options, &provider, store(&provider), tickets).unwrap())
    };
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let client = Arc::new(client(version, &[]));
        let (first, _) = shake_hands(&client, &server());
        assert_eq!(first.handshake_kind(), Some(HandshakeKind::Full));
        let expected = u32::from(*version == rustls::version::TLS13);
        assert_eq!(first.tls13_tickets_received(), expected);
        for _ in 0..3 {
            let (again, _) = shake_hands(&client, &server());
            assert_eq!(again.handshake_kind(), Some(HandshakeKind::Resumed));
        }
    }
}

/// Tickets with keys. Whoever would keep them is not needed for so short a time.
fn tickets() -> Arc<Tickets> {
    let tickets = Arc::new(Tickets::default());
    drop(keep_alone(Arc::clone(&tickets)));
    tickets
}

#[test]
fn a_session_resumes_under_its_own_options_and_name_only() {
    let provider = Arc::new(ring::default_provider());
    let tickets = tickets();
    let options = TlsOptions::default();
    let server = |group: &str| {
        let tickets = Some(tickets.of_group(group));
        Arc::new(server_config(&options, &provider, store(&provider), tickets).unwrap())
    };
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        // A client that keeps every session under one name, whatever it calls.
        let sloppy = Arc::new(OneDrawer::default());
        let mut client = client(version, &[]);
        client.resumption = Resumption::store(Arc::clone(&sloppy) as _);
        let client = Arc::new(client);
        let kind = |group, name| {
            let (client, _) = try_to_shake_hands(&client, &server(group), name).unwrap();
            client.handshake_kind().unwrap()
        };
        let (full, resumed) = (HandshakeKind::Full, HandshakeKind::Resumed);
        assert_eq!(kind("a@file", "a.example"), full);
        assert_eq!(kind("a@file", "a.example"), resumed);
        assert_eq!(kind("b@file", "a.example"), full, "other options");
        assert_eq!(kind("b@file", "a.example"), resumed);
        assert_eq!(kind("b@file", "b.example"), full, "another name");
    }
}

/// A client's sessions, all in one place: the next connection tries the last one.
#[derive(Debug)]
struct OneDrawer(rustls::client::ClientSessionMemoryCache);

impl Default for OneDrawer {
    fn default() -> Self {
        Self(rustls::client::ClientSessionMemoryCache::new(8))
    }
}

fn drawer() -> ServerName<'static> {
    "drawer.example".try_into().unwrap()
}

impl ClientSessionStore for OneDrawer {
    fn set_kx_hint(&self, _: ServerName<'static>, group: rustls::NamedGroup) {
        self.0.set_kx_hint(drawer(), group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<rustls::NamedGroup> {
        self.0.kx_hint(&drawer())
    }

    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(drawer(), value);
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(&drawer())
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&drawer());
    }

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(drawer(), value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&drawer())
    }
}

#[test]
fn switched_off_tickets_are_not_sent() {
    let options = TlsOptions {
        disable_session_tickets: true,
        ..TlsOptions::default()
    };
    let server = Arc::new(build(&options).unwrap());
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let client = Arc::new(client(version, &[]));
        for _ in 0..2 {
            let (client, _) = shake_hands(&client, &server);
            assert_eq!(client.tls13_tickets_received(), 0);
            assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full));
        }
    }
}

#[test]
fn what_go_has_and_rustls_lacks_is_left_out_and_named() {
    let options = TlsOptions {
        min_version: "VersionTLS10".to_owned(),
        cipher_suites: [
            "TLS_FALLBACK_SCSV",
            "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        ]
        .map(str::to_owned)
        .to_vec(),
        // What Traefik's manual has as its example, and today's first choice.
        curve_preferences: ["X25519MLKEM768", "CurveP521", "CurveP384"]
            .map(str::to_owned)
            .to_vec(),
        ..TlsOptions::default()
    };
    let said = left_out(&options).join("\n");
    for name in ["VersionTLS10", "CBC_SHA256", "X25519MLKEM768", "CurveP521"] {
        assert!(said.contains(name), "{name}: {said}");
    }
    assert_eq!(said.lines().count(), 4, "{said}");
    let server = Arc::new(build(&options).unwrap());
    let client = Arc::new(client(&rustls::version::TLS12, &[]));
    let (_, server) = shake_hands(&client, &server);
    assert_eq!(server.negotiated_cipher_suite().unwrap().suite(), OLD_AES);
    let group = server.negotiated_key_exchange_group().unwrap().name();
    assert_eq!(group, rustls::NamedGroup::secp384r1);
    assert!(left_out(&TlsOptions::default()).is_empty());
}

#[test]
fn versions_are_what_they_are_written_to_be() {
    let (old, new) = (&rustls::version::TLS12, &rustls::version::TLS13);
    let rows = [
        ("", "", [true, true]),
        ("VersionTLS11", "", [true, true]),
        ("VersionTLS12", "VersionTLS12", [true, false]),
        ("VersionTLS13", "", [false, true]),
        ("", "VersionTLS12", [true, false]),
    ];
    for (min, max, expected) in rows {
        let options = TlsOptions {
            min_version: min.to_owned(),
            max_version: max.to_owned(),
            ..TlsOptions::default()
        };
        let server = Arc::new(build(&options).unwrap());
        let works = [old, new].map(|version| {
            let client = Arc::new(client(version, &[]));
            try_to_shake_hands(&client, &server, "a.example").is_ok()
        });
        assert_eq!(works, expected, "{min:?} {max:?}");
    }
}

#[test]
fn protocols_are_agreed_or_refused() {
    let list =
        |names: &str| -> Vec<String> { names.split_whitespace().map(str::to_owned).collect() };
    let rows = [
        ("h2 http/1.1", "http/1.1 h2", Some("h2")),
        ("http/1.1", "h2 http/1.1", Some("http/1.1")),
        ("h2", "", Some("")),
        ("h2", "http/1.1", None),
        ("", "http/1.1", Some("http/1.1")),
        ("", "foo", None),
        ("h2 acme-tls/1", "acme-tls/1", None),
    ];
    for (ours, theirs, expected) in rows {
        let options = TlsOptions {
            alpn_protocols: list(ours),
            ..TlsOptions::default()
        };
        let mut client = client(&rustls::version::TLS13, &[]);
        client.alpn_protocols = list(theirs).into_iter().map(String::into_bytes).collect();
        let server = Arc::new(build(&options).unwrap());
        let outcome = try_to_shake_hands(&Arc::new(client), &server, "a.example").ok();
        let agreed = outcome.map(|(_, server)| server.alpn_protocol().unwrap_or_default().to_vec());
        let expected = expected.map(|name| name.as_bytes().to_vec());
        assert_eq!(agreed, expected, "{ours:?} {theirs:?}");
    }
}
