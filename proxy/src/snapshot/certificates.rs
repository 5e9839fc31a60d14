//! Certificate files, loaded once and again when they change.

use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::CryptoProvider;

use crate::config::dynamic::CertificateFile;
use crate::tls::{Certificate, CertificateError};

/// Loaded certificates by the names of their files.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    loaded: HashMap<(String, String), Loaded>,
    round: u64,
}

#[derive(Debug)]
struct Loaded {
    /// What the files looked like when they were read; read again only when that changes.
    stamps: [Stamp; 2],
    certificate: Arc<Certificate>,
    /// The last build that wanted it.
    round: u64,
}

/// What shows that a file changed. PEM text has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp(Option<(SystemTime, u64)>);

impl Stamp {
    fn of(file: &str) -> Self {
        let facts = fs::metadata(file)
            .and_then(|facts| Ok((facts.modified()?, facts.len())))
            .ok();
        Self(facts)
    }
}

impl Certificates {
    /// A certificate from its files. When they changed for the worse, the last
    /// good content comes back together with the error.
    pub(super) fn load(
        &mut self,
        crypto: &CryptoProvider,
        file: &CertificateFile,
    ) -> (Option<Arc<Certificate>>, Option<CertificateError>) {
        let key = (file.cert_file.clone(), file.key_file.clone());
        let stamps = [Stamp::of(&key.0), Stamp::of(&key.1)];
        let round = self.round;
        if let Some(known) = self.loaded.get_mut(&key)
            && known.stamps == stamps
        {
            known.round = round;
            return (Some(Arc::clone(&known.certificate)), None);
        }
        match Certificate::load(crypto, &key.0, &key.1) {
            Ok(certificate) => {
                let certificate = Arc::new(certificate);
                let loaded = Loaded {
                    stamps,
                    certificate: Arc::clone(&certificate),
                    round,
                };
                self.loaded.insert(key, loaded);
                (Some(certificate), None)
            }
            Err(error) => {
                let last_good = self.loaded.get_mut(&key).map(|known| {
                    known.stamps = stamps;
                    known.round = round;
                    Arc::clone(&known.certificate)
                });
                (last_good, Some(error))
            }
        }
    }

    /// Whether a file of a certificate in use changed since it was read.
    pub(super) fn is_stale(&self) -> bool {
        self.loaded
            .iter()
            .any(|((chain, key), loaded)| loaded.stamps != [Stamp::of(chain), Stamp::of(key)])
    }

    /// Ends a build: what it did not ask for goes.
    pub(super) fn sweep(&mut self) {
        let round = self.round;
        self.loaded.retain(|_, loaded| loaded.round == round);
        self.round += 1;
    }
}
