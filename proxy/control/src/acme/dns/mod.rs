//! Shows control of a name by a record in the DNS (RFC 8555 §8.4).
//!
//! Owns the providers that keep zones ([`provider`]), by lego's codes and variables, a
//! small DNS client of its own, and the look whether a record is there before the
//! authority is told. An authority asks for one by [`solver()`] and knows nothing else;
//! nothing here knows ACME beyond the record's name and value.

#[cfg(test)]
mod bind;
mod client;
#[cfg(test)]
mod fake;
mod lookup;
mod propagation;
mod provider;
mod solver;
mod tsig;
mod variables;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::BoxFuture;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use self::client::Client;
use self::lookup::Lookup;
use self::propagation::Checks;
use self::provider::Parts;
use self::solver::Pace;
use self::variables::Variables;
use crate::config::startup::DnsChallenge;

/// How long a DNS server may take, as in lego.
const DNS_TIMEOUT: Duration = Duration::from_secs(10);

/// The solver that the settings of a resolver name. Its provider's own settings are in the
/// environment, which is asked by `variable` and by this function only.
///
/// # Errors
/// If the provider is not known or its variables lack something: the message says what.
pub fn solver(
    settings: &DnsChallenge,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Arc<dyn DnsSolver>, DnsError> {
    let variables = Variables::new(variable);
    let client = Client {
        timeout: DNS_TIMEOUT,
        only_tcp: variables.is_true("LEGO_EXPERIMENTAL_DNS_TCP_ONLY"),
    };
    let parts = Parts {
        variables,
        lookup: Lookup::new(client, &settings.resolvers),
        checks: Checks::new(settings),
        follows: !variables.is_true("LEGO_DISABLE_CNAME_SUPPORT"),
    };
    parts.solver(&settings.provider)
}

/// Puts the record of a challenge into the DNS, and takes it away again.
pub trait DnsSolver: fmt::Debug + Send + Sync {
    /// Adds the proof's value to the TXT records of the challenge for `name`, and returns
    /// once the record is where the settings want it to be.
    ///
    /// `name` is the identifier without `*.`. Two proofs of one name may be present at
    /// once (a name and its wildcard). After an error the caller cleans up as after success.
    fn present<'a>(
        &'a self,
        name: &'a str,
        proof: &'a Proof,
    ) -> BoxFuture<'a, Result<(), DnsError>>;

    /// Takes that value away; other values of the name stay. No record is no error.
    fn cleanup<'a>(
        &'a self,
        name: &'a str,
        proof: &'a Proof,
    ) -> BoxFuture<'a, Result<(), DnsError>>;
}

/// What shows that we hold the account: a key authorization (RFC 8555 §8.1), which
/// programs and servers of the `RAW` mode want as it is, all others as a digest.
#[derive(Clone, PartialEq, Eq)]
pub struct Proof {
    key_authorization: String,
    value: String,
}

impl Proof {
    /// From the token joined with the account key's thumbprint.
    pub fn new(key_authorization: impl Into<String>) -> Self {
        let key_authorization = key_authorization.into();
        let digest = Sha256::digest(key_authorization.as_bytes());
        Self {
            value: URL_SAFE_NO_PAD.encode(digest),
            key_authorization,
        }
    }

    /// What the TXT record says: the digest, base64url (RFC 8555 §8.4).
    pub fn value(&self) -> &str {
        &self.value
    }

    /// The key authorization as it was given.
    pub fn key_authorization(&self) -> &str {
        &self.key_authorization
    }

    /// The authority's token.
    pub fn token(&self) -> &str {
        let end = self.key_authorization.find('.');
        end.map_or(&self.key_authorization, |at| {
            self.key_authorization.split_at(at).0
        })
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proof")
            .field("value", &self.value)
            .finish_non_exhaustive()
    }
}

/// A record can't be put into the DNS, taken away, or seen there.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DnsError {
    /// The settings name no provider that is known, or leave out what it needs.
    #[error("{0}")]
    Settings(String),
    /// The provider did not do it.
    #[error("{provider}: {message}")]
    Provider {
        /// Its code.
        provider: &'static str,
        /// What it says, or why it can't be asked.
        message: String,
    },
    /// A question to the DNS has no usable answer.
    #[error("{0}")]
    Lookup(String),
    /// The record was put there, but is not seen in time.
    #[error("the record of {name} is not seen after {seconds} s: {last}")]
    NotSeen {
        /// The record's name.
        name: String,
        /// How long was looked for it.
        seconds: u64,
        /// What was wrong at the last look.
        last: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(provider: &str, variable: &dyn Fn(&str) -> Option<String>) -> String {
        let settings = DnsChallenge {
            provider: provider.to_owned(),
            resolvers: vec!["127.0.0.1:1".to_owned()],
            ..DnsChallenge::default()
        };
        let made = solver(&settings, variable);
        made.map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn an_unknown_provider_is_told_which_are_known() {
        let error = refusal("gandi", &|_| None);
        for code in ["\"gandi\"", "cloudflare", "httpreq", "rfc2136"] {
            assert!(error.contains(code), "{error}");
        }
    }

    #[test]
    fn every_known_provider_names_the_variable_that_it_lacks() {
        for code in provider::KNOWN {
            let error = refusal(code, &|_| None);
            assert!(error.contains("environment variable"), "{code}: {error}");
            let all = |name: &str| match name {
                "HTTPREQ_ENDPOINT" => Some("http://127.0.0.1:1/".to_owned()),
                name if name.ends_with("TSIG_FILE") => None,
                name if name.ends_with("BASE_URL") || name.ends_with("API_URL") => None,
                name if name.contains("TSIG") => None,
                _ => Some("300".to_owned()),
            };
            let settings = DnsChallenge {
                provider: code.to_owned(),
                ..DnsChallenge::default()
            };
            solver(&settings, &all).unwrap();
        }
    }

    #[test]
    fn a_proof_is_the_digest_of_a_key_authorization() {
        // RFC 8555 §8.1's example, digested by openssl.
        let text = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.\
                    NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs";
        let proof = Proof::new(text);
        assert_eq!(proof.token(), "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA");
        assert_eq!(proof.key_authorization(), text);
        assert_eq!(proof.value(), "ZTRx1Ckl1-tM05o5zaizTTA0yUy5AGereMgSNWC6Ll8");
        assert!(!format!("{proof:?}").contains("NzbLs"));
    }
}
