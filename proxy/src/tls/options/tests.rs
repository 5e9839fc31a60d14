use rustls::client::Resumption;
use rustls::crypto::ring::{self, Ticketer};
use rustls::{CipherSuite, ClientConfig, ClientConnection, HandshakeKind, ServerConnection};
use tidegate_shared::any_certificate::AnyCertificate;

use super::*;
use crate::tls::{StoreBuilder, generate_default};

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
    let name = "a.example".try_into().unwrap();
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
            server.process_new_packets().unwrap();
        }
        let mut flight = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut flight).unwrap();
        }
        let mut rest = flight.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets().unwrap();
        }
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    (client, server)
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
                cipher_suites: vec!["TLS_RSA_WITH_RC4_128_SHA".to_owned()],
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
                    client_auth_type: ClientAuthType::RequireAndVerifyClientCert,
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
            client_auth_type: ClientAuthType::RequestClientCert,
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
    let tickets = Ticketer::new().unwrap();
    let server = || {
        let tickets = Some(Arc::clone(&tickets));
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

#[test]
fn switched_off_tickets_are_not_sent() {
    let options = TlsOptions {
        disable_session_tickets: true,
        ..TlsOptions::default()
    };
    let mut client = client(&rustls::version::TLS13, &[]);
    client.resumption = Resumption::in_memory_sessions(8);
    let (client, _) = shake_hands(&Arc::new(client), &Arc::new(build(&options).unwrap()));
    assert_eq!(client.tls13_tickets_received(), 0);
}
