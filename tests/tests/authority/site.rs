//! What stands in for proxies: a board of challenges, and responders that read it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use futures_util::future::BoxFuture;
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring as provider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use scenarios::pebble::{Options, Pebble};
use tidegate_proxy::acme::authority::{Announce, AnnounceError, Client};
use tidegate_proxy::acme::challenge::{Challenge, ChallengeKind};
use tidegate_proxy::acme::dns::{DnsError, DnsSolver, Proof};
use tidegate_proxy::config::dynamic::Domain;
use tidegate_proxy::config::startup::{Acme, DnsChallenge, HttpChallenge, TlsChallenge};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// The challenges that are shown now, by their names, and what is to go wrong.
#[derive(Debug, Default)]
pub(crate) struct Board {
    shown: watch::Sender<BTreeMap<String, Challenge>>,
    refused: Mutex<BTreeSet<String>>,
    held: Mutex<BTreeSet<String>>,
}

impl Board {
    pub(crate) fn shown(&self) -> Vec<String> {
        self.shown.borrow().keys().cloned().collect()
    }

    pub(crate) fn refuse(&self, name: &str) {
        self.refused.lock().unwrap().insert(name.to_owned());
    }

    pub(crate) fn hold(&self, name: &str) {
        self.held.lock().unwrap().insert(name.to_owned());
    }

    pub(crate) async fn until_shown(&self, name: &str) {
        let mut shown = self.shown.subscribe();
        shown
            .wait_for(|shown| shown.contains_key(name))
            .await
            .unwrap();
    }

    pub(crate) async fn until_hidden(&self, name: &str) {
        let mut shown = self.shown.subscribe();
        shown
            .wait_for(|shown| !shown.contains_key(name))
            .await
            .unwrap();
    }
}

impl Announce for Board {
    fn present<'a>(&'a self, challenge: &'a Challenge) -> BoxFuture<'a, Result<(), AnnounceError>> {
        Box::pin(async move {
            let name = challenge.name.clone();
            if self.refused.lock().unwrap().contains(&name) {
                let message = "refused".to_owned();
                return Err(AnnounceError { name, message });
            }
            self.shown.send_modify(|shown| {
                shown.insert(name.clone(), challenge.clone());
            });
            let is_held = self.held.lock().unwrap().contains(&name);
            if is_held {
                std::future::pending::<()>().await;
            }
            Ok(())
        })
    }

    fn withdraw<'a>(&'a self, challenge: &'a Challenge) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.shown.send_modify(|shown| {
                shown.remove(&challenge.name);
            });
        })
    }
}

/// Puts records into Pebble's DNS, all values of a name at once.
#[derive(Debug)]
struct Zone(Arc<Pebble>);

impl DnsSolver for Zone {
    fn present<'a>(
        &'a self,
        name: &'a str,
        proof: &'a Proof,
    ) -> BoxFuture<'a, Result<(), DnsError>> {
        Box::pin(async move {
            let record = format!("_acme-challenge.{name}");
            let set = self.0.set_txt(&record, proof.value()).await;
            set.map_err(|error| DnsError::Lookup(error.to_string()))
        })
    }

    fn cleanup<'a>(&'a self, name: &'a str, _: &'a Proof) -> BoxFuture<'a, Result<(), DnsError>> {
        Box::pin(async move {
            let cleared = self.0.clear_txt(&format!("_acme-challenge.{name}")).await;
            cleared.map_err(|error| DnsError::Lookup(error.to_string()))
        })
    }
}

/// Pebble, and responders on the ports where it looks.
pub(crate) struct Site {
    pub(crate) pebble: Arc<Pebble>,
    pub(crate) board: Arc<Board>,
}

impl Site {
    pub(crate) async fn start(options: &Options) -> anyhow::Result<Self> {
        let pebble = Arc::new(Pebble::start(options)?);
        let board = Arc::new(Board::default());
        let listener = TcpListener::bind(("127.0.0.1", pebble.http_port())).await?;
        tokio::spawn(serve_http(listener, Arc::clone(&board)));
        let listener = TcpListener::bind(("127.0.0.1", pebble.tls_port())).await?;
        tokio::spawn(serve_tls(listener, Arc::clone(&board)));
        Ok(Self { pebble, board })
    }

    pub(crate) fn client(&self, settings: &Acme) -> anyhow::Result<Client> {
        let dns: Option<Arc<dyn DnsSolver>> = match &settings.dns_challenge {
            Some(_) => Some(Arc::new(Zone(Arc::clone(&self.pebble)))),
            None => None,
        };
        let announce: Arc<dyn Announce> = Arc::<Board>::clone(&self.board);
        Client::new(settings, announce, dns).context("settings")
    }

    fn settings(&self) -> Acme {
        Acme {
            email: "me@example.com".to_owned(),
            ca_server: self.pebble.directory(),
            ca_certificates: vec![self.pebble.trusted_file().display().to_string()],
            ..Acme::default()
        }
    }

    pub(crate) fn over_http(&self) -> Acme {
        Acme {
            http_challenge: Some(HttpChallenge::default()),
            ..self.settings()
        }
    }

    pub(crate) fn over_tls(&self) -> Acme {
        Acme {
            tls_challenge: Some(TlsChallenge::default()),
            ..self.settings()
        }
    }

    pub(crate) fn over_dns(&self) -> Acme {
        Acme {
            dns_challenge: Some(DnsChallenge::default()),
            ..self.settings()
        }
    }
}

pub(crate) fn domain(main: &str, sans: &[&str]) -> Domain {
    Domain {
        main: main.to_owned(),
        sans: sans.iter().map(|name| (*name).to_owned()).collect(),
    }
}

async fn serve_http(listener: TcpListener, board: Arc<Board>) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(stream, Arc::clone(&board)));
    }
}

async fn answer(mut stream: TcpStream, board: Arc<Board>) -> anyhow::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        anyhow::ensure!(stream.read_buf(&mut head).await? > 0, "no request");
    }
    let head = String::from_utf8(head)?;
    let path = head.split(' ').nth(1).context("no path")?;
    let token = path.rsplit('/').next().context("no token")?;
    let found = board
        .shown
        .borrow()
        .values()
        .find(|one| one.token == token)
        .cloned();
    let found = found.filter(|one| one.kind == ChallengeKind::Http01);
    let (status, body) = match found {
        Some(challenge) => ("200 OK", challenge.key_authorization),
        None => ("404 Not Found", String::new()),
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await?;
    Ok(())
}

async fn serve_tls(listener: TcpListener, board: Arc<Board>) {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ByName(board)));
    config.alpn_protocols = vec![b"acme-tls/1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move { drop(acceptor.accept(stream).await) });
    }
}

/// A certificate with the challenge's mark in it (RFC 8737 §3).
#[derive(Debug)]
struct ByName(Arc<Board>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?;
        let shown = self.0.shown.borrow();
        let challenge = shown.get(name)?;
        let digest = ring::digest::digest(
            &ring::digest::SHA256,
            challenge.key_authorization.as_bytes(),
        );
        let mut params = CertificateParams::new(vec![name.to_owned()]).ok()?;
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest.as_ref())];
        let key = KeyPair::generate().ok()?;
        let certificate = params.self_signed(&key).ok()?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = provider::sign::any_supported_type(&key).ok()?;
        Some(Arc::new(CertifiedKey::new(
            vec![certificate.der().clone()],
            key,
        )))
    }
}
