//! TLS: what is offered, whom we trust, and what comes of it.

use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::http::ErrorKind;

/// A certificate for `name`, and the authority that vouches for it (itself).
fn certificate(
    name: &str,
) -> (
    rustls::pki_types::CertificateDer<'static>,
    PrivateKeyDer<'static>,
    String,
) {
    let pair = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(pair.signing_key.serialize_der());
    (pair.cert.der().clone(), key.into(), pair.cert.pem())
}

pub(super) struct TlsServer {
    server: Server,
    acceptor: TlsAcceptor,
    authority: String,
}

impl TlsServer {
    pub(super) async fn start(name: &str, protocols: &[&[u8]]) -> Self {
        let (certificate, key, authority) = certificate(name);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Self {
            server: Server::start().await,
            acceptor: TlsAcceptor::from(Arc::new(config)),
            authority,
        }
    }

    pub(super) fn upstream(&self, settings: &ServersTransport) -> Upstream {
        let url = format!("https://localhost:{}", self.server.address.port());
        Upstream::new(ServerUrl::parse(&url).unwrap(), transport(settings))
    }

    pub(super) fn trusting(&self) -> ServersTransport {
        ServersTransport {
            root_cas: vec![self.authority.clone()],
            ..ServersTransport::default()
        }
    }

    /// Answers one HTTP/1.1 request with the server name that was asked for.
    pub(super) async fn serve_http1(&self) {
        let stream = self.server.accept().await.0;
        let Ok(mut stream) = self.acceptor.accept(stream).await else {
            return;
        };
        let name = stream
            .get_ref()
            .1
            .server_name()
            .unwrap_or("none")
            .to_owned();
        for _ in 0..2 {
            let mut seen = Vec::new();
            while !seen.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else {
                    return;
                };
                seen.push(byte);
            }
            let length = name.len();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{name}");
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
        }
        let _ = stream.read_u8().await;
    }

    async fn serve_http2(&self) {
        let stream = self.server.accept().await.0;
        let stream = self.acceptor.accept(stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            assert_eq!(request.uri().scheme_str(), Some("https"));
            let mut stream = respond
                .send_response(::http::Response::new(()), false)
                .unwrap();
            stream.send_data(Bytes::from_static(b"h2"), true).unwrap();
        }
    }
}

/// Sends `count` requests one after the other.
async fn ask(upstream: &Upstream, count: usize) -> Result<String, Unsent> {
    let mut last = String::new();
    for _ in 0..count {
        last = text(upstream.send_owned(get(), Reuse::Allowed).await?)
            .await
            .unwrap();
    }
    Ok(last)
}

#[tokio::test]
async fn http2_is_spoken_where_both_sides_can() {
    local(async {
        let tls = TlsServer::start("localhost", &[b"h2", b"http/1.1"]).await;
        let upstream = tls.upstream(&tls.trusting());
        tokio::select! {
            () = tls.serve_http2() => panic!("the server has ended"),
            answer = ask(&upstream, 3) => assert_eq!(answer.unwrap(), "h2"),
        }
        let counts = upstream.connections();
        assert_eq!((counts.opened, counts.reused), (1, 2));
    })
    .await;
}

#[tokio::test]
async fn http1_is_spoken_where_a_side_cannot() {
    local(async {
        let both: &[&[u8]] = &[b"h2", b"http/1.1"];
        let table: [(&[&[u8]], bool); 3] = [(&[b"http/1.1"], false), (&[], false), (both, true)];
        for (protocols, disable_http2) in table {
            let tls = TlsServer::start("localhost", protocols).await;
            let settings = ServersTransport {
                disable_http2,
                ..tls.trusting()
            };
            let upstream = tls.upstream(&settings);
            let (answer, ()) = tokio::join!(
                async {
                    let answer = ask(&upstream, 2).await;
                    upstream.retire();
                    let_pass(Duration::from_secs(1)).await;
                    answer
                },
                tls.serve_http1()
            );
            assert_eq!(answer.unwrap(), "localhost");
            let counts = upstream.connections();
            assert_eq!((counts.opened, counts.reused), (1, 1));
        }
    })
    .await;
}

#[tokio::test]
async fn certificates_are_checked_as_told() {
    local(async {
        let nobody = ServersTransport::default();
        let anyone = ServersTransport {
            insecure_skip_verify: true,
            ..ServersTransport::default()
        };
        let other_name = |settings: ServersTransport| ServersTransport {
            server_name: "other.example".to_owned(),
            ..settings
        };
        let tls = TlsServer::start("other.example", &[b"http/1.1"]).await;
        let table = [
            (nobody, None),
            (tls.trusting(), None),
            (other_name(tls.trusting()), Some("other.example")),
            (other_name(anyone.clone()), Some("other.example")),
            (anyone, Some("localhost")),
        ];
        for (settings, expected) in table {
            let upstream = tls.upstream(&settings);
            let (answer, ()) = tokio::join!(
                async {
                    let answer = ask(&upstream, 1).await;
                    upstream.retire();
                    let_pass(Duration::from_secs(1)).await;
                    answer
                },
                tls.serve_http1()
            );
            match answer {
                Ok(name) => assert_eq!(Some(name.as_str()), expected),
                Err(failure) => {
                    assert_eq!(expected, None, "{:?}", failure.error);
                    assert_eq!(failure.error.kind, ErrorKind::Connect);
                    assert_eq!(failure.error.retry, Retry::Always);
                }
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_silent_handshake_times_out() {
    local(async {
        let server = Server::start().await;
        let upstream = upstream(&server.url("https"));
        let (answer, _peer) = send(&upstream, get(), async {
            let peer = server.accept().await;
            tokio::task::yield_now().await;
            let_pass(Duration::from_secs(10)).await;
            peer
        })
        .await;
        let failure = answer.unwrap_err();
        assert_eq!(failure.error.kind, ErrorKind::ConnectTimeout);
        assert!(failure.request.is_some());
    })
    .await;
}

#[tokio::test]
async fn a_certificate_is_shown_to_servers_that_ask() {
    local(async {
        let mut tls = TlsServer::start("localhost", &[b"http/1.1"]).await;
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["client".to_owned()]).unwrap();
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let shown = params.self_signed(&key).unwrap();

        let mut roots = rustls::RootCertStore::empty();
        roots.add(shown.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
            Arc::new(roots),
            Arc::clone(&provider),
        );
        let (certificate, server_key, authority) = certificate("localhost");
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(vec![certificate], server_key)
            .unwrap();
        tls.acceptor = TlsAcceptor::from(Arc::new(config));
        tls.authority = authority;

        let settings = ServersTransport {
            certificates: vec![crate::config::dynamic::Certificate {
                cert_file: shown.pem(),
                key_file: key.serialize_pem(),
            }],
            ..tls.trusting()
        };
        for (settings, is_let_in) in [(settings, true), (tls.trusting(), false)] {
            let upstream = tls.upstream(&settings);
            let (answer, ()) = tokio::join!(
                async {
                    let answer = ask(&upstream, 1).await;
                    drop(upstream);
                    let_pass(Duration::from_secs(1)).await;
                    answer
                },
                tls.serve_http1()
            );
            assert_eq!(answer.is_ok(), is_let_in);
        }
    })
    .await;
}
