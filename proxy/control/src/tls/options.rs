//! TLS options as rustls' server configuration.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{
    ClientHello, NoClientAuth, NoServerSessionStorage, ProducesTickets, ResolvesServerCert,
    WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use thiserror::Error;

use super::certificate::{CertificateError, read_chain};
use super::crypto::{has_aes, prefer};
use super::names::{
    TLS13_SUITES, curve, is_old_suite, is_other_curve, is_remark, is_tls13_suite, suite,
};
use super::store::CertificateStore;
use crate::config::dynamic::{ClientAuth, ClientAuthType, TlsOptions};

/// TLS options that can't be obeyed. Each names its key.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// The value is not known to Go, or to rustls.
    #[error("{key}: {value:?} is not supported")]
    Unsupported {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// Nothing is left to agree upon.
    #[error("minVersion is above maxVersion")]
    Versions,
    /// The authorities can't be used.
    #[error("clientAuth.caFiles: {0}")]
    Authorities(#[from] CertificateError),
    /// Clients must be checked, and there is nothing to check them against.
    #[error("clientAuth.caFiles: no authorities to check client certificates with")]
    NoAuthorities,
    /// rustls refuses the combination.
    #[error("TLS options can't be used: {0}")]
    Library(#[from] rustls::Error),
}

/// Session tickets that a client gets after a full handshake in TLS 1.3. Go's
/// server sends one, too; each costs three requests for random bytes.
const TICKETS: usize = 1;

/// Builds what a handshake under these options is made with.
///
/// Of the suites that both ends know the one that suits this machine best is
/// taken, wherever it stands in `cipherSuites`, as in Go.
///
/// `sniStrict` is the [`TlsTable`](super::TlsTable)'s. `tickets` makes sessions resumable. Options that look at client certificates
/// never get it: a ticket from elsewhere would resume without showing one.
///
/// # Errors
/// If an option can't be obeyed.
pub fn server_config(
    options: &TlsOptions,
    provider: &Arc<CryptoProvider>,
    store: Arc<CertificateStore>,
    tickets: Option<Arc<dyn ProducesTickets>>,
) -> Result<ServerConfig, OptionsError> {
    let mut config = with_order(options, provider, store, has_aes())?;
    let asks_clients = options.client_auth.kind() != ClientAuthType::NoClientCert;
    config.send_tls13_tickets = TICKETS;
    if let Some(tickets) = tickets.filter(|_| !asks_clients && !options.disable_session_tickets) {
        config.ticketer = tickets;
    } else if options.disable_session_tickets {
        config.send_tls13_tickets = 0;
        // Go resumes by ticket only.
        config.session_storage = Arc::new(NoServerSessionStorage {});
    }
    Ok(config)
}

/// What options ask for that this library does not have and that is left out: sayings
/// for the operator, each with its key. Go's own lists have such names, and so do many
/// files; what is left still does.
pub fn left_out(options: &TlsOptions) -> Vec<String> {
    let suites = options.cipher_suites.iter();
    let suites = suites.filter(|name| is_old_suite(name));
    let curves = options.curve_preferences.iter();
    let curves = curves.filter(|name| is_other_curve(name));
    let old = ["VersionTLS10", "VersionTLS11"];
    let version = Some(&options.min_version).filter(|name| old.contains(&name.as_str()));
    let all = [
        suites
            .map(|name| format!("cipherSuites: {name} is not supported and left out"))
            .collect(),
        curves
            .map(|name| format!("curvePreferences: {name} is not supported and left out"))
            .collect(),
        version
            .map(|name| format!("minVersion: {name} is not supported, clients need TLS 1.2"))
            .into_iter()
            .collect::<Vec<_>>(),
    ];
    all.concat()
}

/// A configuration for a machine with or without instructions for AES.
fn with_order(
    options: &TlsOptions,
    provider: &CryptoProvider,
    store: Arc<CertificateStore>,
    has_aes: bool,
) -> Result<ServerConfig, OptionsError> {
    let provider = restrict(options, provider, has_aes)?;
    let verifier = verifier(&options.client_auth, &provider)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&versions(options)?)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(BySni { store }));
    let usual = TlsOptions::default().alpn_protocols;
    let protocols = match options.alpn_protocols.is_empty() {
        true => &usual,
        false => &options.alpn_protocols,
    };
    config.alpn_protocols = protocols
        .iter()
        .filter(|name| name.as_str() != "acme-tls/1")
        .map(|name| name.clone().into_bytes())
        .collect();
    config.ignore_client_order = true;
    Ok(config)
}

/// The provider with only the chosen suites and curves. Suites of TLS 1.3 can't be chosen.
fn restrict(
    options: &TlsOptions,
    provider: &CryptoProvider,
    has_aes: bool,
) -> Result<CryptoProvider, OptionsError> {
    let mut provider = provider.clone();
    if !options.cipher_suites.is_empty() {
        let mut suites = TLS13_SUITES.to_vec();
        for name in &options.cipher_suites {
            match suite(name) {
                Some(suite) => suites.push(suite),
                None if is_tls13_suite(name) || is_old_suite(name) || is_remark(name) => {}
                None => return Err(unsupported("cipherSuites", name)),
            }
        }
        provider.cipher_suites = suites;
    }
    prefer(&mut provider.cipher_suites, has_aes);
    if !options.curve_preferences.is_empty() {
        provider.kx_groups.clear();
        for name in &options.curve_preferences {
            match curve(name) {
                Some(curve) => provider.kx_groups.push(curve),
                None if is_other_curve(name) => {}
                None => return Err(unsupported("curvePreferences", name)),
            }
        }
        if provider.kx_groups.is_empty() {
            let all = options.curve_preferences.join(", ");
            return Err(unsupported("curvePreferences", &all));
        }
    }
    Ok(provider)
}

fn unsupported(key: &'static str, value: &str) -> OptionsError {
    OptionsError::Unsupported {
        key,
        value: value.to_owned(),
    }
}

fn versions(options: &TlsOptions) -> Result<Vec<&'static SupportedProtocolVersion>, OptionsError> {
    let number = |key, name: &str, default| match name {
        "" => Ok(default),
        "VersionTLS12" => Ok(12),
        "VersionTLS13" => Ok(13),
        // Older versions don't exist here: asking for them as the lowest one
        // asks for less than what is given, as the highest one for nothing at all.
        "VersionTLS10" | "VersionTLS11" if key == "minVersion" => Ok(12),
        other => Err(unsupported(key, other)),
    };
    let lowest = number("minVersion", &options.min_version, 12)?;
    let highest = number("maxVersion", &options.max_version, 13)?;
    match (lowest, highest) {
        (12, 12) => Ok(vec![&rustls::version::TLS12]),
        (12, 13) => Ok(vec![&rustls::version::TLS13, &rustls::version::TLS12]),
        (13, 13) => Ok(vec![&rustls::version::TLS13]),
        _ => Err(OptionsError::Versions),
    }
}

fn verifier(
    auth: &ClientAuth,
    provider: &CryptoProvider,
) -> Result<Arc<dyn ClientCertVerifier>, OptionsError> {
    let kind = auth.kind();
    match kind {
        ClientAuthType::NoClientCert => Ok(Arc::new(NoClientAuth)),
        ClientAuthType::RequestClientCert | ClientAuthType::RequireAnyClientCert => {
            Ok(Arc::new(AnyClientCertificate {
                is_required: kind == ClientAuthType::RequireAnyClientCert,
                algorithms: provider.signature_verification_algorithms,
            }))
        }
        ClientAuthType::VerifyClientCertIfGiven | ClientAuthType::RequireAndVerifyClientCert => {
            let mut roots = RootCertStore::empty();
            for file in &auth.ca_files {
                for authority in read_chain(file)? {
                    roots.add(authority)?;
                }
            }
            let mut builder = WebPkiClientVerifier::builder_with_provider(
                Arc::new(roots),
                Arc::new(provider.clone()),
            );
            if kind == ClientAuthType::VerifyClientCertIfGiven {
                builder = builder.allow_unauthenticated();
            }
            builder
                .build()
                .map(|verifier| verifier as Arc<dyn ClientCertVerifier>)
                .map_err(|_| OptionsError::NoAuthorities)
        }
    }
}

/// Serves certificates by the name that the client asks for.
#[derive(Debug)]
struct BySni {
    store: Arc<CertificateStore>,
}

impl ResolvesServerCert for BySni {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls hands the name over in lower case.
        let found = hello.server_name().and_then(|name| self.store.find(name));
        let served = found.unwrap_or_else(|| self.store.default_certificate());
        Some(Arc::clone(&served.key))
    }
}

/// Takes any certificate that the client has the key of.
struct AnyClientCertificate {
    is_required: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl fmt::Debug for AnyClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyClientCertificate")
            .field("is_required", &self.is_required)
            .finish_non_exhaustive()
    }
}

impl ClientCertVerifier for AnyClientCertificate {
    fn client_auth_mandatory(&self) -> bool {
        self.is_required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
