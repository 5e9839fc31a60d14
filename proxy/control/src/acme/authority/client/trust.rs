//! Whom to believe that it is the authority.

use rustls::pki_types::ServerName;

use super::ClientError;
use crate::acme::https::{Https, Limits};
use crate::config::startup::Acme;
use crate::tls::client::ClientTls;

/// Separates files in `LEGO_CA_CERTIFICATES`.
const SEPARATOR: char = ':';

/// Spellings of "yes" in Go, whose programs these variables come from.
const TRUE: [&str; 6] = ["1", "t", "T", "true", "TRUE", "True"];

/// What the settings say, or the environment where they say nothing at all.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Trust {
    files: Vec<String>,
    with_usual: bool,
    server_name: String,
}

impl Trust {
    pub(super) fn of(settings: &Acme, variable: impl Fn(&str) -> Option<String>) -> Self {
        if !settings.ca_certificates.is_empty() || !settings.ca_server_name.is_empty() {
            return Self {
                files: settings.ca_certificates.clone(),
                with_usual: settings.ca_system_cert_pool,
                server_name: settings.ca_server_name.clone(),
            };
        }
        let files = variable("LEGO_CA_CERTIFICATES").unwrap_or_default();
        let files = files.split(SEPARATOR).filter(|file| !file.is_empty());
        let with_usual = variable("LEGO_CA_SYSTEM_CERT_POOL").unwrap_or_default();
        Self {
            files: files.map(str::to_owned).collect(),
            with_usual: TRUE.contains(&with_usual.as_str()),
            server_name: variable("LEGO_CA_SERVER_NAME").unwrap_or_default(),
        }
    }

    pub(super) fn https(&self, limits: Limits) -> Result<Https, ClientError> {
        let tls = ClientTls::default();
        let tls = if self.with_usual {
            tls.trust_also(&self.files)?
        } else {
            tls.trust(&self.files)?
        };
        let https = Https::new(tls.config(&[b"http/1.1"])?, limits);
        if self.server_name.is_empty() {
            return Ok(https);
        }
        let name = ServerName::try_from(self.server_name.clone());
        let name = name.map_err(|_| ClientError::ServerName(self.server_name.clone()))?;
        Ok(https.expecting(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lego(name: &str) -> Option<String> {
        let value = match name {
            "LEGO_CA_CERTIFICATES" => "/a.pem:/b.pem",
            "LEGO_CA_SYSTEM_CERT_POOL" => "true",
            "LEGO_CA_SERVER_NAME" => "lego.example",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[test]
    fn the_environment_speaks_where_the_settings_do_not() {
        let expected = Trust {
            files: vec!["/a.pem".to_owned(), "/b.pem".to_owned()],
            with_usual: true,
            server_name: "lego.example".to_owned(),
        };
        assert_eq!(Trust::of(&Acme::default(), lego), expected);
        let settings = Acme {
            ca_server_name: "ca.example".to_owned(),
            ..Acme::default()
        };
        let expected = Trust {
            files: Vec::new(),
            with_usual: false,
            server_name: "ca.example".to_owned(),
        };
        assert_eq!(Trust::of(&settings, lego), expected);
    }

    #[test]
    fn files_and_names_must_be_such() {
        let limits = Limits {
            head: None,
            whole: None,
            body: 1,
        };
        let missing = Trust {
            files: vec!["/nowhere/ca.pem".to_owned()],
            with_usual: true,
            server_name: String::new(),
        };
        assert!(matches!(missing.https(limits), Err(ClientError::Trust(_))));
        let wrong = Trust {
            files: Vec::new(),
            with_usual: false,
            server_name: "no name".to_owned(),
        };
        assert!(matches!(
            wrong.https(limits),
            Err(ClientError::ServerName(_))
        ));
    }
}
