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
    /// The last content that could be used, if there ever was one.
    certificate: Option<Arc<Certificate>>,
    /// Whether what is there now can be used.
    is_good: bool,
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
        let known = self.loaded.get_mut(&key);
        let last_good = known.as_ref().and_then(|known| known.certificate.clone());
        if let Some(known) = known
            && known.stamps == stamps
            && known.is_good
        {
            known.round = round;
            return (last_good, None);
        }
        let read = Certificate::load(crypto, &key.0, &key.1);
        let (certificate, error) = match read {
            Ok(certificate) => (Some(Arc::new(certificate)), None),
            Err(error) => (last_good, Some(error)),
        };
        let loaded = Loaded {
            stamps,
            certificate: certificate.clone(),
            is_good: error.is_none(),
            round,
        };
        self.loaded.insert(key, loaded);
        (certificate, error)
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    struct Files(PathBuf);

    impl Files {
        fn new() -> Self {
            let name = format!("tidegate-certificates-{:x}", fastrand::u64(..));
            let directory = std::env::temp_dir().join(name);
            fs::create_dir(&directory).unwrap();
            Self(directory)
        }

        fn file(&self) -> CertificateFile {
            let path = |name| self.0.join(name).to_str().unwrap().to_owned();
            CertificateFile {
                cert_file: path("cert.pem"),
                key_file: path("key.pem"),
                stores: Vec::new(),
            }
        }

        fn write(&self) {
            let key = KeyPair::generate().unwrap();
            let made = CertificateParams::new(["a.example".to_owned()])
                .unwrap()
                .self_signed(&key)
                .unwrap();
            fs::write(self.0.join("cert.pem"), made.pem()).unwrap();
            fs::write(self.0.join("key.pem"), key.serialize_pem()).unwrap();
        }
    }

    impl Drop for Files {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn files_are_read_when_they_come_and_kept_when_they_break() {
        let crypto = rustls::crypto::ring::default_provider();
        let files = Files::new();
        let mut certificates = Certificates::default();
        let (missing, error) = certificates.load(&crypto, &files.file());
        assert!(missing.is_none() && error.is_some());
        assert!(!certificates.is_stale());

        files.write();
        assert!(certificates.is_stale());
        let (first, error) = certificates.load(&crypto, &files.file());
        assert!(error.is_none() && !certificates.is_stale());
        let serial = first.map(|found| found.facts.serial.clone());

        fs::write(files.0.join("cert.pem"), "broken").unwrap();
        assert!(certificates.is_stale());
        // The complaint stays as long as its cause, whatever else is rebuilt.
        for _ in 0..2 {
            let (kept, error) = certificates.load(&crypto, &files.file());
            assert_eq!(kept.map(|found| found.facts.serial.clone()), serial);
            assert!(error.is_some());
        }
        certificates.sweep();
        certificates.sweep();
        assert!(certificates.loaded.is_empty());
    }
}
