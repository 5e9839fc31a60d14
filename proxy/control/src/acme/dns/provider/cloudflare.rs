//! Cloudflare's API v4: lego's `cloudflare`.
//!
//! A record is looked for before it is deleted rather than remembered, so that a proxy
//! can clean up after another one that is gone.

use http::{HeaderName, Method};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::lookup::Lookup;
use super::super::solver::{Pace, Provider, Record, plain};
use super::super::variables::{Variables, missing};
use super::api::Api;
use super::{DnsError, failed};

const CODE: &str = "cloudflare";

/// The API's address.
pub(super) const BASE: &str = "https://api.cloudflare.com/client/v4";

/// What the API takes at least, seconds, in most plans.
const LEAST_TTL: u32 = 120;

/// The API's code for a record that is there already.
const IS_THERE: u64 = 81058;

/// Cloudflare, with an account's credentials.
#[derive(Debug)]
pub(super) struct Cloudflare {
    /// May edit records.
    records: Api,
    /// May read zones.
    zones: Api,
    lookup: Lookup,
    ttl: u32,
    pace: Pace,
}

/// How we show who we are.
#[derive(Clone)]
enum Credentials {
    Key { email: String, key: String },
    Token(String),
}

#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    result: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    id: String,
    #[serde(default)]
    content: String,
}

impl Cloudflare {
    /// From `CLOUDFLARE_..` or `CF_..`; `CLOUDFLARE_BASE_URL` wins over `base`.
    pub(super) fn new(
        variables: Variables<'_>,
        lookup: &Lookup,
        base: &str,
    ) -> Result<Self, DnsError> {
        let base = variables
            .text(&["CLOUDFLARE_BASE_URL"])
            .unwrap_or_else(|| base.to_owned());
        let ttl = variables.number(&["CLOUDFLARE_TTL", "CF_TTL"], LEAST_TTL);
        if ttl < LEAST_TTL {
            let message = format!("{CODE}: a TTL of {ttl} s is too short: {LEAST_TTL} s at least");
            return Err(DnsError::Settings(message));
        }
        let timeout = ["CLOUDFLARE_PROPAGATION_TIMEOUT", "CF_PROPAGATION_TIMEOUT"];
        let interval = ["CLOUDFLARE_POLLING_INTERVAL", "CF_POLLING_INTERVAL"];
        let (records, zones) = credentials(variables)?;
        Ok(Self {
            records: connect(variables, &base, &records)?,
            zones: connect(variables, &base, &zones)?,
            lookup: lookup.clone(),
            ttl,
            pace: Pace {
                timeout: variables.seconds(&timeout, 120),
                interval: variables.seconds(&interval, 2),
            },
        })
    }

    /// The identifier of the zone that the record is in.
    async fn zone(&self, record: &Record) -> Result<String, DnsError> {
        let zone = self.lookup.zone(&record.name).await;
        let zone = plain(&zone.map_err(|error| failed(CODE, &error))?);
        let query = [("name", zone.as_str()), ("per_page", "50")];
        let reply = self.zones.call(Method::GET, &["zones"], &query, None);
        let found: Found = reply.await?.json()?;
        match found.result.as_slice() {
            [only] => Ok(only.id.clone()),
            [] => Err(failed(
                CODE,
                &format!("the credentials show no zone {zone}"),
            )),
            _ => Err(failed(
                CODE,
                &format!("the credentials show several zones {zone}"),
            )),
        }
    }
}

impl Provider for Cloudflare {
    fn code(&self) -> &'static str {
        CODE
    }

    fn pace(&self) -> Pace {
        self.pace
    }

    async fn add(&self, record: &Record) -> Result<(), DnsError> {
        let zone = self.zone(record).await?;
        let body = json!({
            "type": "TXT",
            "name": plain(&record.name),
            "content": quoted(record),
            "ttl": self.ttl,
        });
        let path = ["zones", &zone, "dns_records"];
        let reply = self.records.call(Method::POST, &path, &[], Some(&body));
        let reply = reply.await?;
        // Left over by somebody who ended in the middle: the same value is as good.
        if codes(&reply.value()).contains(&IS_THERE) {
            return Ok(());
        }
        reply.done()
    }

    async fn remove(&self, record: &Record) -> Result<(), DnsError> {
        let zone = self.zone(record).await?;
        let path = ["zones", &zone, "dns_records"];
        let name = plain(&record.name);
        let query = [
            ("type", "TXT"),
            ("name", name.as_str()),
            ("per_page", "100"),
        ];
        let reply = self.records.call(Method::GET, &path, &query, None);
        let found: Found = reply.await?.json()?;
        let ours = |item: &&Item| item.content.trim_matches('"') == record.proof.value();
        for item in found.result.iter().filter(ours) {
            let path = ["zones", &zone, "dns_records", &item.id];
            let reply = self.records.call(Method::DELETE, &path, &[], None);
            reply.await?.done_or_gone()?;
        }
        Ok(())
    }
}

/// Those for records and those for zones: an account's key, or one token or two.
fn credentials(variables: Variables<'_>) -> Result<(Credentials, Credentials), DnsError> {
    let email = variables.text(&["CLOUDFLARE_EMAIL", "CF_API_EMAIL"]);
    let key = variables.text(&["CLOUDFLARE_API_KEY", "CF_API_KEY"]);
    if let (Some(email), Some(key)) = (email, key) {
        let key = Credentials::Key { email, key };
        return Ok((key.clone(), key));
    }
    let names = ["CLOUDFLARE_DNS_API_TOKEN", "CF_DNS_API_TOKEN"];
    let records = variables.text(&names).ok_or_else(|| missing(&names))?;
    let zones = variables.text(&["CLOUDFLARE_ZONE_API_TOKEN", "CF_ZONE_API_TOKEN"]);
    let zones = zones.unwrap_or_else(|| records.clone());
    Ok((Credentials::Token(records), Credentials::Token(zones)))
}

fn connect(
    variables: Variables<'_>,
    base: &str,
    credentials: &Credentials,
) -> Result<Api, DnsError> {
    let timeout = ["CLOUDFLARE_HTTP_TIMEOUT", "CF_HTTP_TIMEOUT"];
    let api = Api::new(CODE, base, variables, &timeout, explain)?;
    match credentials {
        Credentials::Key { email, key } => api
            .with_secret(HeaderName::from_static("x-auth-email"), email)?
            .with_secret(HeaderName::from_static("x-auth-key"), key),
        Credentials::Token(token) => api.with_token(token),
    }
}

/// As the API wants the content of TXT records.
fn quoted(record: &Record) -> String {
    format!("\"{}\"", record.proof.value())
}

fn errors(body: &Value) -> impl Iterator<Item = &Value> {
    let errors = body.get("errors").and_then(Value::as_array);
    errors.into_iter().flatten()
}

fn codes(body: &Value) -> Vec<u64> {
    let code = |error: &Value| error.get("code")?.as_u64();
    errors(body).filter_map(code).collect()
}

fn explain(body: &Value) -> Option<String> {
    let message = |error: &Value| {
        let code = error.get("code")?.as_u64()?;
        Some(format!("{} ({code})", error.get("message")?.as_str()?))
    };
    let all: Vec<String> = errors(body).filter_map(message).collect();
    Some(all.join("; ")).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests;
