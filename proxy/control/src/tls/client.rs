//! TLS towards servers: whom to trust, what to show, which protocols to offer.
//!
//! Made once for each servers transport. A transport that names no authorities
//! trusts the system's, or Mozilla's where the system has none (an image
//! without a file system of its own, say).

use std::fs;
use std::io;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use thiserror::Error;
use tidegate_shared::any_certificate::AnyCertificate;

use super::crypto::provider;
use crate::config::dynamic::Certificate;

/// Where Linux distributions keep the authorities that they trust.
const SYSTEM_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The start of any PEM text, which no sensible file name has.
const PEM_START: &str = "-----BEGIN";

/// What a servers transport says about TLS; unless told otherwise, the usual
/// authorities are trusted and no certificate is shown.
#[derive(Debug, Default)]
pub struct ClientTls {
    trust: Trust,
    identities: Vec<Identity>,
}

#[derive(Debug, Default)]
enum Trust {
    #[default]
    Usual,
    Only(Arc<RootCertStore>),
    Anyone,
}

/// A setting of [`ClientTls`] that can't be obeyed.
#[derive(Debug, Error)]
pub enum ClientTlsError {
    /// A file can't be read.
    #[error("can't read {path:?}")]
    Read {
        /// The file.
        path: Box<str>,
        /// Why.
        source: io::Error,
    },
    /// A text or file holds something else.
    #[error("no PEM {what} in {place}")]
    Pem {
        /// What was looked for.
        what: &'static str,
        /// Where.
        place: Box<str>,
        /// What is wrong with it, unless it is just not there.
        source: Option<pem::Error>,
    },
    /// The authority, certificate or key is of no use.
    #[error("the {what} is refused")]
    Refused {
        /// What was refused.
        what: &'static str,
        /// Why.
        source: rustls::Error,
    },
}

impl ClientTls {
    /// Trusts only `authorities`, each a file or PEM text; none means the usual ones.
    pub fn trust(mut self, authorities: &[String]) -> Result<Self, ClientTlsError> {
        if authorities.is_empty() {
            return Ok(self);
        }
        let mut roots = RootCertStore::empty();
        for source in authorities {
            for certificate in certificates(source)? {
                roots.add(certificate).map_err(refused("authority"))?;
            }
        }
        self.trust = Trust::Only(Arc::new(roots));
        Ok(self)
    }

    /// Trusts `authorities`, each a file or PEM text, besides the usual ones.
    pub fn trust_also(mut self, authorities: &[String]) -> Result<Self, ClientTlsError> {
        if authorities.is_empty() {
            return Ok(self);
        }
        let mut roots = system_roots().unwrap_or_else(mozilla_roots);
        for source in authorities {
            for certificate in certificates(source)? {
                roots.add(certificate).map_err(refused("authority"))?;
            }
        }
        self.trust = Trust::Only(Arc::new(roots));
        Ok(self)
    }

    /// Takes every certificate.
    #[must_use]
    pub fn trust_anyone(mut self) -> Self {
        self.trust = Trust::Anyone;
        self
    }

    /// Shows one of `chosen` to servers that ask for a certificate.
    pub fn show(mut self, chosen: &[Certificate]) -> Result<Self, ClientTlsError> {
        self.identities = chosen
            .iter()
            .map(Identity::read)
            .collect::<Result<_, _>>()?;
        Ok(self)
    }

    /// A configuration that offers `protocols` (ALPN), best first.
    pub fn config(&self, protocols: &[&[u8]]) -> Result<Arc<ClientConfig>, ClientTlsError> {
        let provider = Arc::new(provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(refused("TLS version"))?;
        let builder = match &self.trust {
            Trust::Usual => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(UsualAuthorities(provider))),
            Trust::Only(roots) => builder.with_root_certificates(Arc::clone(roots)),
            Trust::Anyone => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider))),
        };
        let mut config = if self.identities.is_empty() {
            builder.with_no_client_auth()
        } else {
            builder.with_client_cert_resolver(Arc::new(Identities(self.identities.clone())))
        };
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(Arc::new(config))
    }
}

/// A certificate chain with its key, and who signed its parts.
#[derive(Clone, Debug)]
struct Identity {
    key: Arc<CertifiedKey>,
    issuers: Vec<Box<[u8]>>,
}

impl Identity {
    fn read(pair: &Certificate) -> Result<Self, ClientTlsError> {
        let chain = certificates(&pair.cert_file)?;
        let key = private_key(&pair.key_file)?;
        let issuers = chain.iter().filter_map(issuer).collect();
        let key = CertifiedKey::from_der(chain, key, &provider())
            .map_err(refused("client certificate"))?;
        Ok(Self {
            key: Arc::new(key),
            issuers,
        })
    }

    fn can_sign(&self, schemes: &[SignatureScheme]) -> bool {
        self.key.key.choose_scheme(schemes).is_some()
    }

    fn is_signed_by(&self, authorities: &[&[u8]]) -> bool {
        self.issuers
            .iter()
            .any(|issuer| authorities.contains(&issuer.as_ref()))
    }
}

fn issuer(certificate: &CertificateDer<'_>) -> Option<Box<[u8]>> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(parsed.tbs_certificate.issuer.as_raw().into())
}

/// Shows the certificate that the server's hints ask for, else the first that
/// it can check at all.
#[derive(Debug)]
struct Identities(Vec<Identity>);

impl ResolvesClientCert for Identities {
    fn resolve(
        &self,
        root_hint_subjects: &[&[u8]],
        sigschemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let mut fitting = self.0.iter().filter(|one| one.can_sign(sigschemes));
        let hinted = fitting
            .clone()
            .find(|one| one.is_signed_by(root_hint_subjects));
        let chosen = hinted.or_else(|| fitting.next())?;
        Some(Arc::clone(&chosen.key))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

fn refused(what: &'static str) -> impl Fn(rustls::Error) -> ClientTlsError {
    move |source| ClientTlsError::Refused { what, source }
}

/// Checks a server's certificate against the usual authorities. They are read
/// when the first server shows one: most proxies speak TLS to nobody, and well
/// over a hundred authorities are no small thing to keep for nothing.
#[derive(Debug)]
struct UsualAuthorities(Arc<CryptoProvider>);

impl UsualAuthorities {
    /// The one verifier of the process.
    fn verifier(&self) -> Result<&'static WebPkiServerVerifier, rustls::Error> {
        static VERIFIER: OnceLock<Option<Arc<WebPkiServerVerifier>>> = OnceLock::new();
        let verifier = VERIFIER.get_or_init(|| {
            let roots = Arc::new(system_roots().unwrap_or_else(mozilla_roots));
            WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&self.0))
                .build()
                .ok()
        });
        verifier
            .as_deref()
            .ok_or_else(|| rustls::Error::General("there are no authorities".to_owned()))
    }
}

impl ServerCertVerifier for UsualAuthorities {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verifier()?.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn system_roots() -> Option<RootCertStore> {
    let text = SYSTEM_BUNDLES.iter().find_map(|path| fs::read(path).ok())?;
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_slice_iter(&text).filter_map(Result::ok);
    // A bundle may hold old certificates that rustls can't use; they don't
    // speak against the others.
    let (added, _) = roots.add_parsable_certificates(found);
    (added > 0).then_some(roots)
}

fn mozilla_roots() -> RootCertStore {
    webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()
}

fn certificates(source: &str) -> Result<Vec<CertificateDer<'static>>, ClientTlsError> {
    let text = read(source)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        other => Err(not_pem("certificate", source, other.err())),
    }
}

fn private_key(source: &str) -> Result<PrivateKeyDer<'static>, ClientTlsError> {
    PrivateKeyDer::from_pem_slice(&read(source)?)
        .map_err(|error| not_pem("private key", source, Some(error)))
}

fn read(source: &str) -> Result<Vec<u8>, ClientTlsError> {
    if source.contains(PEM_START) {
        return Ok(source.as_bytes().to_vec());
    }
    fs::read(source).map_err(|error| ClientTlsError::Read {
        path: source.into(),
        source: error,
    })
}

fn not_pem(what: &'static str, source: &str, error: Option<pem::Error>) -> ClientTlsError {
    // Never show the text itself: it may be a key.
    let place = if source.contains(PEM_START) {
        "the given text".into()
    } else {
        format!("{source:?}").into()
    };
    ClientTlsError::Pem {
        what,
        place,
        source: error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_come_from_text_and_files() {
        let pair = rcgen::generate_simple_self_signed(vec!["web".to_owned()]).unwrap();
        let text = pair.cert.pem();
        let file = std::env::temp_dir().join(format!("tidegate-ca-{}.pem", std::process::id()));
        fs::write(&file, &text).unwrap();
        let authorities = [text, file.to_str().unwrap().to_owned()];
        let tls = ClientTls::default().trust(&authorities);
        fs::remove_file(&file).unwrap();
        let config = tls.unwrap().config(&[b"h2", b"http/1.1"]).unwrap();
        assert_eq!(
            config.alpn_protocols,
            [b"h2".to_vec(), b"http/1.1".to_vec()]
        );
    }

    #[test]
    fn a_transport_without_authorities_has_some() {
        assert!(ClientTls::default().config(&[]).is_ok());
        let authorities = UsualAuthorities(Arc::new(provider()));
        let made = rcgen::generate_simple_self_signed(vec!["web".to_owned()]).unwrap();
        let name = ServerName::try_from("web").unwrap();
        let verdict =
            authorities.verify_server_cert(made.cert.der(), &[], &name, &[], UnixTime::now());
        let refused = rustls::CertificateError::UnknownIssuer;
        assert_eq!(verdict.unwrap_err(), refused.into());
        assert!(!mozilla_roots().is_empty());
    }

    fn identity(name: &str) -> (Certificate, Vec<u8>) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["web".to_owned()]).unwrap();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap();
        let pair = Certificate {
            cert_file: certificate.pem(),
            key_file: key.serialize_pem(),
        };
        (pair, issuer(certificate.der()).unwrap().into())
    }

    #[test]
    fn the_certificate_that_a_server_asks_for_is_shown() {
        let (first, _) = identity("first");
        let (second, issuer) = identity("second");
        let tls = ClientTls::default().show(&[first, second]).unwrap();
        let identities = Identities(tls.identities);
        let schemes = [SignatureScheme::ECDSA_NISTP256_SHA256];
        let shown = |hints: &[&[u8]], schemes| identities.resolve(hints, schemes);
        let is = |key: Option<Arc<CertifiedKey>>, index: usize| {
            Arc::ptr_eq(&key.unwrap(), &identities.0[index].key)
        };
        assert!(is(shown(&[], &schemes), 0));
        assert!(is(shown(&[&issuer], &schemes), 1));
        assert!(shown(&[], &[SignatureScheme::ED25519]).is_none());
    }

    #[test]
    fn what_is_wrong_is_named_without_showing_it() {
        let missing = ["/nonexistent/ca.pem".to_owned()];
        let error = ClientTls::default().trust(&missing).unwrap_err();
        assert_eq!(error.to_string(), "can't read \"/nonexistent/ca.pem\"");

        let secret = "-----BEGIN NOTHING-----\nsecret".to_owned();
        let pair = Certificate {
            cert_file: secret.clone(),
            key_file: secret,
        };
        let error = ClientTls::default().show(&[pair]).unwrap_err();
        assert_eq!(error.to_string(), "no PEM certificate in the given text");
    }
}
