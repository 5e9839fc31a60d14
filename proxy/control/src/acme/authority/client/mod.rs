//! An authority that speaks ACME (RFC 8555), asked as a resolver's settings say.
//!
//! Owns all conversation with it: account, orders, challenges, downloads, advice on
//! renewal. Knows no store and no lock, and tries nothing twice except what a nonce
//! spoiled: when to ask again is its caller's decision.

mod account;
mod challenges;
mod courier;
mod download;
mod key;
mod obtain;
mod problem;
mod renewal;
mod signer;
mod trust;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use futures_util::future::BoxFuture;
use thiserror::Error;

use self::account::Session;
use self::key::KeyType;
use super::{Announce, Authority, Enroll, Enrolled, Order, OrderError, RenewalAdvice};
use crate::acme::dns::DnsSolver;
use crate::acme::https::{Https, Limits, Proxies};
use crate::acme::store::{Account, StoredCertificate};
use crate::config::startup::{Acme, ExternalAccount};
use crate::tls::client::ClientTlsError;

/// Largest answer of an authority: a chain of a few certificates, or a directory.
const LARGEST_ANSWER: usize = 1 << 20;

/// A resolver's settings that can't be obeyed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No way to show control of a name.
    #[error("no challenge: set httpChallenge, tlsChallenge or dnsChallenge")]
    NoChallenge,
    /// The address can't be asked.
    #[error("caServer {0:?} is no address such as https://HOST/directory")]
    Server(String),
    /// The key is no base64url.
    #[error("eab.hmacEncoded is no base64url text")]
    ExternalKey,
    /// Half of it.
    #[error("eab needs both kid and hmacEncoded")]
    ExternalAccount,
    /// The authorities to trust can't be read.
    #[error("caCertificates")]
    Trust(#[from] ClientTlsError),
    /// The name to expect is none.
    #[error("caServerName {0:?} is no host name")]
    ServerName(String),
}

/// Makes accounts at an authority and asks it for certificates.
#[derive(Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

/// What all conversations with the authority share.
#[derive(Debug)]
struct Shared {
    directory: String,
    https: Arc<Https>,
    email: String,
    external: Option<ExternalKey>,
    wishes: Wishes,
    ways: Ways,
    announce: Arc<dyn Announce>,
}

/// What certificates should be like.
#[derive(Debug)]
struct Wishes {
    key_type: KeyType,
    emails: Vec<String>,
    has_common_name: bool,
    profile: Option<String>,
    preferred_chain: Option<String>,
    patience: Duration,
}

/// How control of a name may be shown, and how long to wait before the authority looks.
#[derive(Debug)]
struct Ways {
    tls: Option<Duration>,
    http: Option<Duration>,
    dns: Option<Arc<dyn DnsSolver>>,
}

/// What binds an account to another one (RFC 8555 §7.3.4).
struct ExternalKey {
    kid: String,
    key: Vec<u8>,
}

impl Client {
    /// A client for the authority of these settings, with `LEGO_CA_CERTIFICATES`,
    /// `LEGO_CA_SYSTEM_CERT_POOL` and `LEGO_CA_SERVER_NAME` of the environment in place of
    /// what they leave out, by way of the proxy that it names. Nobody is asked yet.
    pub fn new(
        settings: &Acme,
        announce: Arc<dyn Announce>,
        dns: Option<Arc<dyn DnsSolver>>,
    ) -> Result<Self, ClientError> {
        let ways = Ways::of(settings, dns)?;
        let variable = |name: &str| std::env::var(name).ok();
        let trust = trust::Trust::of(settings, variable);
        let limits = Limits {
            head: settings.client_response_header_timeout.limit(),
            whole: settings.client_timeout.limit(),
            body: LARGEST_ANSWER,
        };
        let external = settings.eab.as_ref().map(ExternalKey::read).transpose()?;
        Ok(Self {
            shared: Arc::new(Shared {
                directory: directory(&settings.ca_server)?,
                https: Arc::new(trust.https(limits)?.through(Proxies::of(variable))),
                email: settings.email.clone(),
                external,
                wishes: Wishes::of(settings),
                ways,
                announce,
            }),
        })
    }
}

impl Wishes {
    fn of(settings: &Acme) -> Self {
        let given = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let patience = settings.certificate_timeout.limit();
        Self {
            key_type: KeyType::parse(&settings.key_type),
            emails: settings.email_addresses.clone(),
            has_common_name: !settings.disable_common_name,
            profile: given(&settings.profile),
            preferred_chain: given(&settings.preferred_chain),
            // Zero is lego's usual time, not none.
            patience: patience.unwrap_or(Duration::from_secs(30)),
        }
    }
}

impl Ways {
    fn of(settings: &Acme, dns: Option<Arc<dyn DnsSolver>>) -> Result<Self, ClientError> {
        let ways = Self {
            tls: settings.tls_challenge.as_ref().map(|way| way.delay.0),
            http: settings.http_challenge.as_ref().map(|way| way.delay.0),
            dns,
        };
        if ways.tls.is_none() && ways.http.is_none() && ways.dns.is_none() {
            return Err(ClientError::NoChallenge);
        }
        Ok(ways)
    }
}

impl ExternalKey {
    fn read(settings: &ExternalAccount) -> Result<Self, ClientError> {
        if settings.kid.is_empty() || settings.hmac_encoded.is_empty() {
            return Err(ClientError::ExternalAccount);
        }
        let text = settings.hmac_encoded.trim().trim_end_matches('=');
        let key = URL_SAFE_NO_PAD
            .decode(text)
            .or_else(|_| STANDARD_NO_PAD.decode(text))
            .map_err(|_| ClientError::ExternalKey)?;
        Ok(Self {
            kid: settings.kid.clone(),
            key,
        })
    }
}

impl std::fmt::Debug for ExternalKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExternalKey")
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

fn directory(address: &str) -> Result<String, ClientError> {
    let wrong = || ClientError::Server(address.to_owned());
    let uri: http::Uri = address.parse().map_err(|_| wrong())?;
    let is_web = matches!(uri.scheme_str(), Some("https" | "http"));
    match uri.host() {
        Some(host) if is_web && !host.is_empty() => Ok(address.to_owned()),
        _ => Err(wrong()),
    }
}

impl Enroll for Client {
    fn enroll(&self, known: Option<Account>) -> BoxFuture<'_, Result<Enrolled, OrderError>> {
        Box::pin(async move {
            let (session, account) = account::enroll(&self.shared, known).await?;
            Ok(Enrolled {
                authority: Arc::new(session),
                account,
            })
        })
    }

    fn renewal<'a>(
        &'a self,
        certificate: &'a StoredCertificate,
    ) -> BoxFuture<'a, Result<Option<RenewalAdvice>, OrderError>> {
        Box::pin(renewal::renewal(&self.shared, certificate))
    }
}

impl Authority for Session {
    fn obtain<'a>(
        &'a self,
        order: &'a Order,
    ) -> BoxFuture<'a, Result<StoredCertificate, OrderError>> {
        Box::pin(obtain::obtain(self, order))
    }
}

#[cfg(test)]
mod tests;
