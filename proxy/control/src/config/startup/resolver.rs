//! Certificate resolvers as they are written.

use serde::{Deserialize, Serialize};
use tidegate_shared::settings::Interval;

/// `certificatesResolvers.NAME`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CertificatesResolver {
    /// An authority that speaks ACME; the only kind there is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acme: Option<Acme>,
}

/// `certificatesResolvers.NAME.acme`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Acme {
    /// Whom the authority may write to.
    pub email: String,
    /// Addresses to put into certificate requests, beside the names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub email_addresses: Vec<String>,
    /// The authority's directory.
    pub ca_server: String,
    /// A file in Traefik's format; Tidegate's own: `swarm:PREFIX`, `etcd://HOST:PORT,../PREFIX`.
    pub storage: String,
    /// The kind of the certificates' keys: `EC256` (Tidegate's default), `EC384`, `RSA2048`, `RSA4096`.
    pub key_type: String,
    /// A chain whose root has this common name is taken, if it is offered.
    pub preferred_chain: String,
    /// The authority's profile to order by.
    pub profile: String,
    /// Whether the request leaves the common name out.
    #[serde(rename = "disableCommonName")]
    pub disable_common_name: bool,
    /// What binds the account to one that exists elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eab: Option<ExternalAccount>,
    /// How long certificates live, from which the time of renewal follows; hours.
    pub certificates_duration: u64,
    /// Longest wait for one answer of the authority, all of it.
    pub client_timeout: Interval,
    /// Longest wait for the head of an answer.
    pub client_response_header_timeout: Interval,
    /// Longest wait for a certificate after its order is ready.
    pub certificate_timeout: Interval,
    /// Files with the authorities to trust when talking to this one.
    #[serde(rename = "caCertificates", skip_serializing_if = "Vec::is_empty")]
    pub ca_certificates: Vec<String>,
    /// Whether the usual authorities are trusted beside those.
    #[serde(rename = "caSystemCertPool")]
    pub ca_system_cert_pool: bool,
    /// The name that the authority's own certificate must have.
    #[serde(rename = "caServerName")]
    pub ca_server_name: String,
    /// Show control by answering a request in the clear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_challenge: Option<HttpChallenge>,
    /// Show control by a handshake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_challenge: Option<TlsChallenge>,
    /// Show control by a record in the DNS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_challenge: Option<DnsChallenge>,
}

impl Default for Acme {
    fn default() -> Self {
        Self {
            email: String::new(),
            email_addresses: Vec::new(),
            ca_server: "https://acme-v02.api.letsencrypt.org/directory".to_owned(),
            storage: "acme.json".to_owned(),
            key_type: "EC256".to_owned(),
            preferred_chain: String::new(),
            profile: String::new(),
            disable_common_name: false,
            eab: None,
            certificates_duration: 2160,
            client_timeout: Interval::from_secs(120),
            client_response_header_timeout: Interval::from_secs(30),
            certificate_timeout: Interval::from_secs(30),
            ca_certificates: Vec::new(),
            ca_system_cert_pool: false,
            ca_server_name: String::new(),
            http_challenge: None,
            tls_challenge: None,
            dns_challenge: None,
        }
    }
}

/// `eab`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ExternalAccount {
    /// The key's identifier.
    pub kid: String,
    /// The key, base64url.
    #[serde(skip_serializing)]
    pub hmac_encoded: String,
}

/// `httpChallenge`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HttpChallenge {
    /// The entry point that the authority reaches at port 80.
    pub entry_point: String,
    /// How long to wait before the authority is told to look.
    pub delay: Interval,
}

/// `tlsChallenge`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TlsChallenge {
    /// How long to wait before the authority is told to look.
    pub delay: Interval,
}

/// `dnsChallenge`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DnsChallenge {
    /// Who keeps the zone: lego's name of it (`rfc2136`, `exec`, `httpreq`, `cloudflare` ..).
    pub provider: String,
    /// Resolvers (`HOST:PORT`) to ask whether a record is there; empty means this machine's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resolvers: Vec<String>,
    /// When a record counts as being there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub propagation: Option<Propagation>,
    /// v2's name of `propagation.delayBeforeChecks`.
    pub delay_before_check: Interval,
    /// v2's name of `propagation.disableChecks`.
    pub disable_propagation_check: bool,
}

/// `dnsChallenge.propagation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Propagation {
    /// Whether the authority is told to look without any check.
    pub disable_checks: bool,
    /// Whether the zone's own servers are left out of the checks.
    #[serde(rename = "disableANSChecks")]
    pub disable_ans_checks: bool,
    /// Whether all `resolvers` must have it.
    #[serde(rename = "requireAllRNS")]
    pub require_all_rns: bool,
    /// How long to wait before the first check.
    pub delay_before_checks: Interval,
}
