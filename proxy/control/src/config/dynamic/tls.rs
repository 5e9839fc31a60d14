//! Certificates, TLS options and stores as they are written.

use serde::{Deserialize, Serialize};

use super::Domain;

/// One entry of `tls.certificates`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CertificateFile {
    /// The certificate chain: a file name or PEM text.
    pub cert_file: String,
    /// The private key: a file name or PEM text.
    #[serde(skip_serializing)]
    pub key_file: String,
    /// The stores it belongs to; empty means `default`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stores: Vec<String>,
}

/// `tls.stores.NAME`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Store {
    /// What clients get whose name no certificate fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_certificate: Option<CertificateFile>,
    /// A resolver's certificate for that, if there is no file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_generated_cert: Option<GeneratedCertificate>,
}

/// `tls.stores.NAME.defaultGeneratedCert`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GeneratedCertificate {
    /// The resolver that gets it.
    pub resolver: String,
    /// Its names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<Domain>,
}

/// `tls.options.NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TlsOptions {
    /// `VersionTLS12` or `VersionTLS13`; older ones don't exist here. Empty means 1.2.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub min_version: String,
    /// `VersionTLS12` or `VersionTLS13`; empty means no limit.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub max_version: String,
    /// Names of cipher suites; empty means all of the library's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cipher_suites: Vec<String>,
    /// Names of curves; empty means all of the library's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub curve_preferences: Vec<String>,
    /// Certificates of clients.
    pub client_auth: ClientAuth,
    /// Whether a client whose name no certificate fits is refused.
    pub sni_strict: bool,
    /// Protocols that are offered, best first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alpn_protocols: Vec<String>,
    /// Whether sessions can't be resumed by ticket.
    pub disable_session_tickets: bool,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self {
            min_version: String::new(),
            max_version: String::new(),
            cipher_suites: Vec::new(),
            curve_preferences: Vec::new(),
            client_auth: ClientAuth::default(),
            sni_strict: false,
            alpn_protocols: vec!["h2".to_owned(), "http/1.1".to_owned()],
            disable_session_tickets: false,
        }
    }
}

/// `clientAuth` of TLS options.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClientAuth {
    /// Files (or PEM text) of the authorities that sign client certificates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ca_files: Vec<String>,
    /// What is asked of clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_auth_type: Option<ClientAuthType>,
}

impl ClientAuth {
    /// What is asked of clients: where that is not written, a certificate if there
    /// are authorities, as in Traefik.
    pub fn kind(&self) -> ClientAuthType {
        self.client_auth_type
            .unwrap_or(match self.ca_files.is_empty() {
                true => ClientAuthType::NoClientCert,
                false => ClientAuthType::RequireAndVerifyClientCert,
            })
    }
}

/// What is asked of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientAuthType {
    /// Nothing.
    NoClientCert,
    /// A certificate, which may be missing and is not checked.
    RequestClientCert,
    /// A certificate, which is not checked.
    RequireAnyClientCert,
    /// A certificate, checked if it is given.
    VerifyClientCertIfGiven,
    /// A certificate that one of the authorities signed.
    RequireAndVerifyClientCert,
}
