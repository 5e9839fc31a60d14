//! DigitalOcean's API v2: lego's `digitalocean`.

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::lookup::Lookup;
use super::super::solver::{Pace, Provider, Record, plain};
use super::super::variables::Variables;
use super::api::Api;
use super::{DnsError, failed, pace};

const CODE: &str = "digitalocean";

/// The API's address.
pub(super) const BASE: &str = "https://api.digitalocean.com";

/// DigitalOcean, with an account's token.
#[derive(Debug)]
pub(super) struct DigitalOcean {
    api: Api,
    lookup: Lookup,
    ttl: u32,
    pace: Pace,
}

#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    domain_records: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    id: u64,
    #[serde(default)]
    data: String,
}

impl DigitalOcean {
    /// From `DO_..`; `DO_API_URL` wins over `base`.
    pub(super) fn new(
        variables: Variables<'_>,
        lookup: &Lookup,
        base: &str,
    ) -> Result<Self, DnsError> {
        let token = variables.required(&["DO_AUTH_TOKEN"])?;
        let base = variables
            .text(&["DO_API_URL"])
            .unwrap_or_else(|| base.to_owned());
        let timeout = ["DO_HTTP_TIMEOUT"];
        Ok(Self {
            api: Api::new(CODE, &base, variables, &timeout, explain)?.with_token(&token)?,
            lookup: lookup.clone(),
            ttl: variables.number(&["DO_TTL"], 30),
            pace: pace(variables, "DO", 60, 5),
        })
    }

    async fn zone(&self, record: &Record) -> Result<String, DnsError> {
        let zone = self.lookup.zone(&record.name).await;
        Ok(plain(&zone.map_err(|error| failed(CODE, &error))?))
    }
}

impl Provider for DigitalOcean {
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
            "name": record.name.to_ascii(),
            "data": record.proof.value(),
            "ttl": self.ttl,
        });
        let path = ["v2", "domains", &zone, "records"];
        let reply = self.api.call(Method::POST, &path, &[], Some(&body));
        reply.await?.done()
    }

    /// Looks for the record, so that a proxy can clean up after another one.
    async fn remove(&self, record: &Record) -> Result<(), DnsError> {
        let zone = self.zone(record).await?;
        let path = ["v2", "domains", &zone, "records"];
        let name = plain(&record.name);
        let query = [
            ("type", "TXT"),
            ("name", name.as_str()),
            ("per_page", "200"),
        ];
        let reply = self.api.call(Method::GET, &path, &query, None);
        let found: Found = reply.await?.json()?;
        let ours = |item: &&Item| item.data.trim_matches('"') == record.proof.value();
        for item in found.domain_records.iter().filter(ours) {
            let path = ["v2", "domains", &zone, "records", &item.id.to_string()];
            let reply = self.api.call(Method::DELETE, &path, &[], None);
            reply.await?.done_or_gone()?;
        }
        Ok(())
    }
}

fn explain(body: &Value) -> Option<String> {
    let id = body.get("id")?.as_str()?;
    Some(format!("{} ({id})", body.get("message")?.as_str()?))
}

#[cfg(test)]
mod tests;
