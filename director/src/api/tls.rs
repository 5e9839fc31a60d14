//! TLS for `--api`: one certificate, read again when its files change.
//!
//! What can't be used is said once and not used: the last good one stays.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;

use super::ApiError;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// A certificate and its key, as files.
#[derive(Debug)]
pub(super) struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
    seen: Seen,
    current: watch::Sender<Arc<ServerConfig>>,
}

/// What tells a file from its next version, which may be another file: its
/// number, when it was written to the nanosecond, and its size.
type Seen = [Option<(u64, i64, i64, u64)>; 2];

impl Certificate {
    /// Reads it.
    pub(super) fn open(certificate: &Path, key: &Path) -> Result<Self, ApiError> {
        let seen = look(certificate, key);
        let config = read(certificate, key)?;
        Ok(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            seen,
            current: watch::Sender::new(config),
        })
    }

    /// What to greet connections with.
    pub(super) fn current(&self) -> watch::Receiver<Arc<ServerConfig>> {
        self.current.subscribe()
    }

    /// Reads it again whenever its files change; runs until it is dropped.
    pub(super) async fn follow(mut self) {
        loop {
            tokio::time::sleep(LOOK).await;
            let looked = tokio::task::spawn_blocking(move || {
                self.look_again();
                self
            });
            match looked.await {
                Ok(same) => self = same,
                // The runtime ends, and this with it.
                Err(_) => return std::future::pending().await,
            }
        }
    }

    /// Looks at the files once.
    pub(super) fn look_again(&mut self) {
        let seen = look(&self.certificate, &self.key);
        if seen == self.seen {
            return;
        }
        self.seen = seen;
        let certificate = self.certificate.display();
        match read(&self.certificate, &self.key) {
            Ok(config) => {
                tracing::info!(%certificate, "The API's certificate was read again");
                self.current.send_replace(config);
            }
            Err(reason) => {
                let error = tidegate_shared::report::Chain(&reason);
                tracing::warn!(%certificate, %error, "The API keeps its last good certificate");
            }
        }
    }
}

fn look(certificate: &Path, key: &Path) -> Seen {
    [certificate, key].map(|path| {
        let it = fs::metadata(path).ok()?;
        Some((it.ino(), it.mtime(), it.mtime_nsec(), it.size()))
    })
}

fn read(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, ApiError> {
    let text = |path: &Path| {
        fs::read(path).map_err(|source| ApiError::File {
            path: path.to_owned(),
            source,
        })
    };
    let pem = |path: &Path, what| ApiError::Pem {
        path: path.to_owned(),
        what,
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text(certificate)?).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or_else(|| pem(certificate, "certificate"))?;
    let private = PrivateKeyDer::from_pem_slice(&text(key)?);
    let private = private.map_err(|_| pem(key, "private key"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|it| it.with_no_client_auth().with_single_cert(chain, private))
        .map_err(ApiError::Tls)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
