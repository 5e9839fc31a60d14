//! What comes before HTTP: PROXY headers and TLS.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use rustls::pki_types::{CertificateDer, ServerName};
use tidegate_proxy::config::startup::ProxyProtocol;
use tidegate_shared::proxy_protocol::{Addresses, encode_v1, encode_v2};

use crate::client::{Edge, edge, edge_with, eventually, status};
use crate::toy::tls;

const GET: &str = "GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

fn proxied(insecure: bool, trusted: &[&str]) -> Edge {
    edge(|config| {
        config.proxy_protocol = Some(ProxyProtocol {
            insecure,
            trusted_ips: trusted.iter().map(|ip| (*ip).to_owned()).collect(),
        });
    })
}

fn headers() -> [Vec<u8>; 2] {
    let addresses = Addresses {
        source: "192.0.2.1:5555".parse().unwrap(),
        destination: "198.51.100.7:443".parse().unwrap(),
    };
    [
        encode_v1(&addresses).into_bytes(),
        encode_v2(Some(&addresses)),
    ]
}

#[test]
fn a_trusted_peer_speaks_for_its_client() {
    for edge in [
        proxied(true, &[]),
        proxied(false, &["127.0.0.0/8"]),
        proxied(false, &["127.0.0.1"]),
    ] {
        for header in headers() {
            let response = edge.ask([&header, GET.as_bytes()].concat());
            assert!(
                response.contains("client=192.0.2.1:5555 local=198.51.100.7:443"),
                "{response}"
            );
        }
        let response = edge.ask([&encode_v2(None), GET.as_bytes()].concat());
        assert!(response.contains("client=127.0.0.1:"), "{response}");
        assert!(edge.ask(GET).contains("client=127.0.0.1:"));
    }
}

#[test]
fn a_header_may_come_byte_by_byte() {
    let edge = proxied(true, &[]);
    for header in headers() {
        let mut client = edge.connect();
        client.0.set_nodelay(true).unwrap();
        for byte in [&header, GET.as_bytes()].concat() {
            client.send([byte]);
        }
        assert!(client.rest().contains("client=192.0.2.1:5555"));
    }
}

#[test]
fn an_untrusted_peer_speaks_for_itself() {
    let edge = proxied(false, &["10.0.0.0/8"]);
    for header in headers() {
        let response = edge.ask([&header, GET.as_bytes()].concat());
        assert!(response.contains("client=127.0.0.1:"), "{response}");
    }
}

#[test]
fn a_header_is_only_understood_where_it_is_configured() {
    let edge = edge(|_| {});
    let [v1, v2] = headers();
    for header in [v1, v2] {
        let response = edge.ask([&header, GET.as_bytes()].concat());
        assert!(matches!(status(&response), 0 | 400), "{response}");
    }
    let edge = proxied(true, &[]);
    assert_eq!(edge.ask("PROXY TCP4 nonsense\r\n"), "");
    assert_eq!(edge.toy.calls.load(SeqCst), 0);
}

fn client_config(certificate: CertificateDer<'static>, alpn: &[&str]) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

#[test]
fn one_port_speaks_tls_and_clear_text() {
    let (certificate, configs) = tls();
    let edge = edge_with(|_| {}, Some(Arc::new(configs)));
    assert!(edge.ask(GET).contains("tls=\n"));

    let name = ServerName::try_from("LOCALHOST").unwrap();
    let config = client_config(certificate, &["http/1.1"]);
    let session = rustls::ClientConnection::new(config, name).unwrap();
    let mut stream = rustls::StreamOwned::new(session, edge.connect().0);
    stream.write_all(GET.as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert!(response.contains("tls=1.3/TLS_AES_"), "{response}");
    assert!(response.contains("/localhost/default\n"), "{response}");
}

#[test]
fn a_large_response_passes_tls() {
    let (certificate, configs) = tls();
    let edge = edge_with(|_| {}, Some(Arc::new(configs)));
    let name = ServerName::try_from("localhost").unwrap();
    let session = rustls::ClientConnection::new(client_config(certificate, &[]), name).unwrap();
    let mut stream = rustls::StreamOwned::new(session, edge.connect().0);
    stream
        .write_all(b"GET /big?5000000 HTTP/1.0\r\n\r\n")
        .unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).unwrap();
    assert!(response.len() > 5_000_000);
}

#[test]
fn failed_handshakes_are_counted() {
    let (certificate, configs) = tls();
    let edge = edge_with(|_| {}, Some(Arc::new(configs)));
    let mut client = edge.connect();
    client.send(b"\x16\x03\x01\x00\x05hello");
    client.rest();
    let name = ServerName::try_from("unknown.example").unwrap();
    let session = rustls::ClientConnection::new(client_config(certificate, &[]), name).unwrap();
    let mut stream = rustls::StreamOwned::new(session, edge.connect().0);
    let error = stream.write_all(GET.as_bytes()).unwrap_err().to_string();
    assert!(
        error.contains("UnrecognizedName") || error.contains("UnrecognisedName"),
        "{error}"
    );
    eventually("both are counted", || {
        edge.toy.handshakes_failed.load(SeqCst) == 2
    });
    assert!(edge.ask(GET).contains("tls=\n"));
}
