//! Pebble, an authority that speaks ACME, as a child process beside its own DNS.
//!
//! Owns both processes (Debian's `pebble` and `pebble-challtestsrv`), the certificate
//! that Pebble shows, and what it is asked to do wrong. Every name has the address
//! 127.0.0.1 until it is pointed elsewhere, so that a challenge can be sent to one of
//! several proxies. Counts what Pebble was asked; judges nothing.

use std::env;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::client::Connection;
use crate::ports;
use crate::process::Proxy;

pub mod front;

const AUTHORITY: &str = "ca.pem";

/// The management interfaces answer within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// How Pebble is to behave. The default is well-behaved and quick.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// External accounts: key identifiers with their keys, base64url. Any at all means
    /// that no account is made without one.
    pub external: Vec<(String, String)>,
    /// How many of a hundred good nonces are refused.
    pub refused_nonces: u8,
    /// How many of a hundred valid authorizations serve another order.
    pub reused_authorizations: u8,
    /// Whether every challenge counts as answered, unseen.
    pub is_always_valid: bool,
    /// How many more roots there are, each with a chain of its own.
    pub alternate_roots: u8,
    /// Where HTTP-01 challenges are looked for; a free port if it is not given.
    pub http_port: Option<u16>,
    /// Where TLS-ALPN-01 challenges are looked for; a free port if it is not given.
    pub tls_port: Option<u16>,
    /// Longest life of its certificates, seconds; five years if it is not given.
    pub certificate_seconds: Option<u32>,
}

/// A running Pebble; dropping it kills both processes.
#[derive(Debug)]
pub struct Pebble {
    process: Proxy,
    // Kept for its end.
    _dns: Proxy,
    listen: SocketAddr,
    management: SocketAddr,
    dns: SocketAddr,
    dns_management: SocketAddr,
    http_port: u16,
    tls_port: u16,
}

impl Pebble {
    /// Starts it.
    ///
    /// # Errors
    /// It is not installed, or does not come up.
    pub fn start(options: &Options) -> anyhow::Result<Self> {
        let dns = ports::free_address()?;
        let dns_management = ports::free_address()?;
        let names = dns_server(dns, dns_management)?;
        let listen = ports::free_address()?;
        let management = ports::free_address()?;
        let http_port = port(options.http_port)?;
        let tls_port = port(options.tls_port)?;
        let (authority, certificate, key) = identity()?;
        let config = config(options, listen, management, (http_port, tls_port)).to_string();
        let process = Proxy::program(program("pebble")?)?
            .file(AUTHORITY, &authority)?
            .file("cert.pem", &certificate)?
            .file("key.pem", &key)?
            .file("config.json", &config)?
            .arg("-config")
            .arg("config.json")
            .arg("-dnsserver")
            .arg(dns.to_string())
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env(
                "PEBBLE_WFE_NONCEREJECT",
                &options.refused_nonces.to_string(),
            )
            .env(
                "PEBBLE_AUTHZREUSE",
                &options.reused_authorizations.to_string(),
            )
            .env("PEBBLE_VA_ALWAYS_VALID", flag(options.is_always_valid))
            .env(
                "PEBBLE_ALTERNATE_ROOTS",
                &options.alternate_roots.to_string(),
            )
            .ready_at(listen)
            .start()
            .context("Pebble")?;
        Ok(Self {
            process,
            _dns: names,
            listen,
            management,
            dns,
            dns_management,
            http_port,
            tls_port,
        })
    }

    /// Its directory.
    #[must_use]
    pub fn directory(&self) -> String {
        format!("https://localhost:{}/dir", self.listen.port())
    }

    /// The file with the authority to trust when talking to it.
    #[must_use]
    pub fn trusted_file(&self) -> PathBuf {
        self.process.scratch().path().join(AUTHORITY)
    }

    /// Where it looks for HTTP-01 challenges, on the address of their name.
    #[must_use]
    pub fn http_port(&self) -> u16 {
        self.http_port
    }

    /// Where it looks for TLS-ALPN-01 challenges, on the address of their name.
    #[must_use]
    pub fn tls_port(&self) -> u16 {
        self.tls_port
    }

    /// The DNS server that it asks.
    #[must_use]
    pub fn dns(&self) -> SocketAddr {
        self.dns
    }

    /// The root, PEM, of its chain `number`, which is 0 for the usual one.
    ///
    /// # Errors
    /// There is none of this number, or Pebble does not answer.
    pub async fn root(&self, number: u8) -> anyhow::Result<String> {
        let mut connection = Connection::open_tls(self.management, "localhost").await?;
        let request = Request::get(format!("/roots/{number}"))
            .header("host", "localhost")
            .body(http_body_util::Empty::new())?;
        let response = connection.send(request).await?;
        anyhow::ensure!(response.status().is_success(), "{}", response.status());
        Ok(String::from_utf8(response.into_body().to_vec())?)
    }

    /// Gives a name these addresses in place of 127.0.0.1.
    ///
    /// # Errors
    /// The DNS server does not answer.
    pub async fn point(&self, name: &str, addresses: &[IpAddr]) -> anyhow::Result<()> {
        let body = json!({"host": name, "addresses": addresses});
        self.tell_dns("add-a", &body).await
    }

    /// Lets every question for the name fail.
    ///
    /// # Errors
    /// The DNS server does not answer.
    pub async fn lose(&self, name: &str) -> anyhow::Result<()> {
        self.tell_dns("set-servfail", &json!({"host": name})).await
    }

    /// Adds a TXT record.
    ///
    /// # Errors
    /// The DNS server does not answer.
    pub async fn set_txt(&self, name: &str, value: &str) -> anyhow::Result<()> {
        let body = json!({"host": dotted(name), "value": value});
        self.tell_dns("set-txt", &body).await
    }

    /// Takes all TXT records of a name away.
    ///
    /// # Errors
    /// The DNS server does not answer.
    pub async fn clear_txt(&self, name: &str) -> anyhow::Result<()> {
        self.tell_dns("clear-txt", &json!({"host": dotted(name)}))
            .await
    }

    async fn tell_dns(&self, what: &str, body: &Value) -> anyhow::Result<()> {
        let telling = post(self.dns_management, what, body.to_string());
        tokio::time::timeout(PATIENCE, telling).await?
    }

    /// What it has said.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// How many orders it has taken.
    #[must_use]
    pub fn orders(&self) -> usize {
        count(&self.log(), "Added order ")
    }

    /// How many challenges it was told to look at.
    #[must_use]
    pub fn validations(&self) -> usize {
        count(&self.log(), "Pulled a task from the Tasks queue")
    }

    /// How many certificates it has issued.
    #[must_use]
    pub fn certificates(&self) -> usize {
        count(&self.log(), "Issued certificate serial")
    }
}

fn count(log: &str, what: &str) -> usize {
    log.lines().filter(|line| line.contains(what)).count()
}

fn dotted(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}

const fn flag(is_set: bool) -> &'static str {
    if is_set { "1" } else { "0" }
}

fn port(wanted: Option<u16>) -> anyhow::Result<u16> {
    wanted.map_or_else(|| Ok(ports::free()?), Ok)
}

fn dns_server(listen: SocketAddr, management: SocketAddr) -> anyhow::Result<Proxy> {
    let mut command = Proxy::program(program("pebble-challtestsrv")?)?;
    for (flag, value) in [
        ("-defaultIPv6", String::new()),
        ("-http01", String::new()),
        ("-https01", String::new()),
        ("-tlsalpn01", String::new()),
        ("-dns01", listen.to_string()),
        ("-management", management.to_string()),
    ] {
        command = command.arg(flag).arg(value);
    }
    command.ready_at(management).start().context("its DNS")
}

fn config(
    options: &Options,
    listen: SocketAddr,
    management: SocketAddr,
    (http_port, tls_port): (u16, u16),
) -> Value {
    let mut pebble = json!({
        "listenAddress": listen,
        "managementListenAddress": management,
        "certificate": "cert.pem",
        "privateKey": "key.pem",
        "httpPort": http_port,
        "tlsPort": tls_port,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": !options.external.is_empty(),
    });
    if let Some(fields) = pebble.as_object_mut() {
        if !options.external.is_empty() {
            let keys = options.external.iter().cloned();
            let keys = keys.map(|(kid, key)| (kid, Value::from(key))).collect();
            fields.insert("externalAccountMACKeys".to_owned(), keys);
        }
        if let Some(seconds) = options.certificate_seconds {
            fields.insert("certificateValidityPeriod".to_owned(), seconds.into());
        }
    }
    json!({ "pebble": pebble })
}

/// An authority of our own, and a certificate of `localhost` by it: all PEM.
fn identity() -> anyhow::Result<(String, String, String)> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let authority = params.self_signed(&key)?.pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate()?;
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names)?.signed_by(&key, &issuer)?;
    Ok((authority, certificate.pem(), key.serialize_pem()))
}

async fn post(address: SocketAddr, what: &str, body: String) -> anyhow::Result<()> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::post(format!("/{what}"))
        .header("host", address.to_string())
        .body(Full::new(Bytes::from(body)))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    anyhow::ensure!(
        status.is_success(),
        "{what}: {status} {}",
        String::from_utf8_lossy(&body)
    );
    Ok(())
}

/// An installed program.
fn program(name: &str) -> anyhow::Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([Path::new("/usr/bin").to_owned()])
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
        .with_context(|| format!("{name} is not installed: ./test installs Debian's `pebble`"))
}
