//! Authorities that validate a name by a handshake (RFC 8737).

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, SystemTime};

use futures_util::future::BoxFuture;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ClientHello;
use rustls::{DigitallySignedStruct, ProtocolVersion, SignatureScheme};
use sha2::{Digest, Sha256};
use tidegate_proxy::acme::challenge::{Board, Challenge, ChallengeKind, Lookup, TlsAlpn};
use tidegate_proxy::tls::{SelectedConfig, ServerConfigs};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::client::{Edge, edge_with};
use crate::toy::{ToyTls, tls};

/// The extension `acmeIdentifier` (RFC 8737 section 6.1).
const ACME_IDENTIFIER: &str = "1.3.6.1.5.5.7.1.31";

/// Ordinary settings that let nobody in, beside a board.
#[derive(Debug)]
struct Guarded {
    ordinary: ToyTls,
    validations: TlsAlpn,
}

impl ServerConfigs for Guarded {
    fn select(&self, hello: &ClientHello<'_>) -> Option<SelectedConfig> {
        self.ordinary.select(hello)
    }

    fn challenge<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Option<Arc<rustls::ServerConfig>>> {
        Box::pin(self.validations.config(name))
    }
}

fn challenge(name: &str) -> Challenge {
    Challenge {
        kind: ChallengeKind::TlsAlpn01,
        name: name.to_owned(),
        token: format!("token-of-{name}"),
        key_authorization: format!("token-of-{name}.print"),
        expires: SystemTime::now() + Duration::from_secs(60),
    }
}

/// An entry point that can answer for what is on `board`.
fn guarded(board: &Arc<Board>) -> Edge {
    let crypto = Arc::new(rustls::crypto::ring::default_provider());
    let guarded = Guarded {
        ordinary: tls().1,
        validations: TlsAlpn::new(Arc::clone(board), crypto),
    };
    edge_with(|_| {}, Some(Arc::new(guarded)))
}

/// Takes any certificate, also with a critical extension that rustls does not know.
#[derive(Debug)]
struct Unchecked(Arc<CryptoProvider>);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What somebody saw who offered `protocols`.
#[derive(Debug, PartialEq)]
struct Seen {
    agreed: Option<String>,
    leaf: Vec<u8>,
}

fn visit(
    edge: &Edge,
    name: &str,
    protocols: &[&str],
    version: ProtocolVersion,
) -> Result<Seen, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions: &[_] = match version {
        ProtocolVersion::TLSv1_2 => &[&rustls::version::TLS12],
        _ => &[&rustls::version::TLS13],
    };
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unchecked(provider)))
        .with_no_client_auth();
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().into())
        .collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = rustls::StreamOwned::new(session, edge.connect().0);
    stream.flush().map_err(|error| error.to_string())?;
    let seen = Seen {
        agreed: stream
            .conn
            .alpn_protocol()
            .map(|name| String::from_utf8(name.to_vec()).unwrap()),
        leaf: stream.conn.peer_certificates().unwrap()[0].to_vec(),
    };
    if seen.agreed.as_deref() == Some("acme-tls/1") {
        // Closed in order, with nothing said.
        let mut rest = Vec::new();
        let end = stream
            .read_to_end(&mut rest)
            .map_err(|error| error.to_string());
        assert_eq!((end, rest), (Ok(0), Vec::new()));
    }
    Ok(seen)
}

#[test]
fn an_authority_sees_the_challenge_and_nothing_else() {
    let board = Arc::new(Board::default());
    board.present(&challenge("a.example"));
    let edge = guarded(&board);
    for version in [ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3] {
        let seen = visit(&edge, "A.Example", &["acme-tls/1"], version).unwrap();
        assert_eq!(seen.agreed.unwrap(), "acme-tls/1");
        let (_, leaf) = X509Certificate::from_der(&seen.leaf).unwrap();
        let names = leaf.subject_alternative_name().unwrap().unwrap();
        let expected = [GeneralName::DNSName("a.example")];
        assert_eq!(names.value.general_names, expected);
        let identifier = leaf
            .extensions()
            .iter()
            .find(|extension| extension.oid.to_id_string() == ACME_IDENTIFIER)
            .unwrap();
        assert!(identifier.critical);
        let digest = Sha256::digest("token-of-a.example.print");
        // An octet string in the extension's own octet string.
        assert_eq!(identifier.value[..2], [4, 32]);
        assert_eq!(identifier.value[2..], digest[..]);
    }
    assert_eq!(edge.toy.handshakes_failed.load(SeqCst), 0);
    assert_eq!(edge.toy.calls.load(SeqCst), 0);
}

#[test]
fn unknown_names_are_refused_and_ordinary_clients_served() {
    let board = Arc::new(Board::default());
    board.present(&challenge("a.example"));
    let edge = guarded(&board);
    let version = ProtocolVersion::TLSv1_3;
    for name in ["b.example", "192.0.2.7"] {
        let refused = visit(&edge, name, &["acme-tls/1"], version).unwrap_err();
        assert!(refused.contains("UnrecognisedName"), "{name}: {refused}");
    }
    for (protocols, agreed) in [
        (&["acme-tls/1", "http/1.1"][..], Some("http/1.1")),
        (&["h2", "acme-tls/1"], Some("h2")),
        (&[], None),
    ] {
        let seen = visit(&edge, "a.example", protocols, version).unwrap();
        assert_eq!(seen.agreed.as_deref(), agreed);
        let (_, leaf) = X509Certificate::from_der(&seen.leaf).unwrap();
        let names = leaf.subject_alternative_name().unwrap().unwrap();
        let expected = [GeneralName::DNSName("localhost")];
        assert_eq!(names.value.general_names, expected);
    }
}

/// Another proxy, which knows every name's challenge.
#[derive(Debug)]
struct Another;

impl Lookup for Another {
    fn find<'a>(&'a self, _: ChallengeKind, key: &'a str) -> BoxFuture<'a, Option<Challenge>> {
        Box::pin(async move { Some(challenge(key)) })
    }
}

#[test]
fn what_only_another_proxy_knows_is_answered() {
    let control = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let board = Arc::new(Board::default());
    control.block_on(async { board.also_ask(Arc::new(Another)) });
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let control = std::thread::spawn(move || control.block_on(stopped));
    let edge = guarded(&board);
    let version = ProtocolVersion::TLSv1_3;
    let seen = visit(&edge, "far.example", &["acme-tls/1"], version).unwrap();
    assert_eq!(seen.agreed.unwrap(), "acme-tls/1");
    let known = board.peek(ChallengeKind::TlsAlpn01, "far.example");
    assert_eq!(known.unwrap().token, "token-of-far.example");
    drop(stop);
    assert!(control.join().unwrap().is_err());
}
