//! TLS towards an engine: whom to trust, and what to show.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::EndpointError;
use crate::any_certificate::AnyCertificate;

/// TLS settings of an engine's client. Each of `ca`, `cert` and `key` is a file's
/// name or the PEM text itself.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// The authorities to trust; empty means the public ones built in.
    pub ca: String,
    /// The certificate to show, if any.
    pub cert: String,
    /// Its key.
    pub key: String,
    /// Whether any certificate of the engine will do.
    pub insecure_skip_verify: bool,
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("insecure_skip_verify", &self.insecure_skip_verify)
            .finish_non_exhaustive()
    }
}

impl ClientTls {
    /// The settings as rustls wants them; reads the files.
    pub(super) fn build(&self) -> Result<Arc<ClientConfig>, EndpointError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong("tls", &error))?;
        let builder = if self.insecure_skip_verify {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        } else {
            builder.with_root_certificates(self.roots()?)
        };
        let config = match (self.cert.is_empty(), self.key.is_empty()) {
            (true, true) => builder.with_no_client_auth(),
            (false, false) => builder
                .with_client_auth_cert(certificates("tls.cert", &self.cert)?, self.key()?)
                .map_err(|error| wrong("tls.cert", &error))?,
            _ => return Err(wrong("tls.cert", &"a certificate and its key go together")),
        };
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, EndpointError> {
        let mut roots = RootCertStore::empty();
        if self.ca.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        } else {
            for certificate in certificates("tls.ca", &self.ca)? {
                roots
                    .add(certificate)
                    .map_err(|error| wrong("tls.ca", &error))?;
            }
        }
        Ok(roots)
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, EndpointError> {
        PrivateKeyDer::from_pem_slice(&read("tls.key", &self.key)?)
            .map_err(|error| wrong("tls.key", &error))
    }
}

fn certificates(
    setting: &'static str,
    source: &str,
) -> Result<Vec<CertificateDer<'static>>, EndpointError> {
    let chain = CertificateDer::pem_slice_iter(&read(setting, source)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(setting, &error))?;
    if chain.is_empty() {
        return Err(wrong(setting, &"it holds no certificate"));
    }
    Ok(chain)
}

/// The PEM text, or what is in the file of that name.
fn read(setting: &'static str, source: &str) -> Result<Vec<u8>, EndpointError> {
    if source.contains("-----BEGIN ") {
        return Ok(source.as_bytes().to_vec());
    }
    std::fs::read(source).map_err(|error| wrong(setting, &format!("{source}: {error}")))
}

fn wrong(setting: &'static str, message: &dyn fmt::Display) -> EndpointError {
    EndpointError::Tls {
        setting,
        message: message.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_which_setting_is_wrong() {
        let missing = "/nowhere/at/all.pem".to_owned();
        for (tls, setting) in [
            (
                ClientTls {
                    ca: missing.clone(),
                    ..ClientTls::default()
                },
                "tls.ca",
            ),
            (
                ClientTls {
                    cert: missing.clone(),
                    ..ClientTls::default()
                },
                "tls.cert",
            ),
            (
                ClientTls {
                    ca: "-----BEGIN CERTIFICATE-----\n@@\n-----END CERTIFICATE-----\n".to_owned(),
                    ..ClientTls::default()
                },
                "tls.ca",
            ),
        ] {
            let error = tls.build().expect_err(setting);
            assert!(error.to_string().starts_with(setting), "{error}");
        }
    }

    #[test]
    fn works_without_any_setting_and_without_verification() {
        assert!(ClientTls::default().build().is_ok());
        let careless = ClientTls {
            insecure_skip_verify: true,
            ..ClientTls::default()
        };
        assert!(careless.build().is_ok());
    }
}
