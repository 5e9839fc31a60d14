//! Who keeps zones, each by lego's code and with lego's environment variables.

mod api;
mod cloudflare;
mod digitalocean;
mod exec;
mod hetzner;
mod httpreq;
mod rfc2136;
#[cfg(test)]
mod scripted;

use std::sync::Arc;

use super::lookup::Lookup;
use super::solver::{Provider, Solver};
use super::variables::Variables;
use super::{DnsError, DnsSolver, Pace};

/// The codes that settings may name.
pub(super) const KNOWN: [&str; 7] = [
    "cloudflare",
    "digitalocean",
    "dnsupdate",
    "exec",
    "hetzner",
    "httpreq",
    "rfc2136",
];

/// What every provider is made with.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub(super) variables: Variables<'a>,
    pub(super) lookup: Lookup,
    pub(super) checks: super::propagation::Checks,
    pub(super) follows: bool,
}

impl Parts<'_> {
    /// The solver of the provider that is called `code`.
    pub(super) fn solver(self, code: &str) -> Result<Arc<dyn DnsSolver>, DnsError> {
        let variables = self.variables;
        match code {
            "rfc2136" | "dnsupdate" => {
                let provider = rfc2136::Rfc2136::new(variables, &self.lookup)?;
                Ok(self.over(provider, rfc2136::Rfc2136::sequence(variables)))
            }
            "exec" => {
                let provider = exec::Exec::new(variables)?;
                Ok(self.over(provider, exec::Exec::sequence(variables)))
            }
            "httpreq" => Ok(self.over(httpreq::HttpReq::new(variables)?, None)),
            "cloudflare" => {
                let base = cloudflare::BASE;
                let provider = cloudflare::Cloudflare::new(variables, &self.lookup, base)?;
                Ok(self.over(provider, None))
            }
            "digitalocean" => {
                let base = digitalocean::BASE;
                let provider = digitalocean::DigitalOcean::new(variables, &self.lookup, base)?;
                Ok(self.over(provider, None))
            }
            "hetzner" => {
                let provider = hetzner::Hetzner::new(variables, &self.lookup, hetzner::BASE)?;
                Ok(self.over(provider, None))
            }
            _ => Err(unknown(code)),
        }
    }

    fn over<P: Provider + 'static>(
        self,
        provider: P,
        sequence: Option<std::time::Duration>,
    ) -> Arc<dyn DnsSolver> {
        Arc::new(Solver {
            provider,
            lookup: self.lookup,
            checks: self.checks,
            follows: self.follows,
            sequence,
            next: tokio::sync::Mutex::new(None),
            placed: std::sync::Mutex::default(),
        })
    }
}

fn unknown(code: &str) -> DnsError {
    let known = KNOWN.join(", ");
    DnsError::Settings(format!(
        "the DNS provider {code:?} is not known; known are {known}; \
         `exec` runs any program and `httpreq` asks any server"
    ))
}

/// A provider's failure.
fn failed(provider: &'static str, message: &dyn std::fmt::Display) -> DnsError {
    DnsError::Provider {
        provider,
        message: message.to_string(),
    }
}

/// `PREFIX_PROPAGATION_TIMEOUT` and `PREFIX_POLLING_INTERVAL`, or these seconds.
fn pace(variables: Variables<'_>, prefix: &str, timeout: u64, interval: u64) -> Pace {
    Pace {
        timeout: variables.seconds(&[&format!("{prefix}_PROPAGATION_TIMEOUT")], timeout),
        interval: variables.seconds(&[&format!("{prefix}_POLLING_INTERVAL")], interval),
    }
}
