//! Hetzner's Cloud API v1: lego's `hetzner`.
//!
//! The API of the DNS Console, for which `HETZNER_API_KEY` was, no longer exists: only
//! `HETZNER_API_TOKEN` is of use. A change is an action that takes a moment.

use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::super::lookup::Lookup;
use super::super::solver::{Pace, Provider, Record, below, plain};
use super::super::variables::Variables;
use super::api::{Api, Reply};
use super::{DnsError, failed, pace};

const CODE: &str = "hetzner";

/// The API's address.
pub(super) const BASE: &str = "https://api.hetzner.cloud/v1";

/// Hetzner, with a project's token.
#[derive(Debug)]
pub(super) struct Hetzner {
    api: Api,
    lookup: Lookup,
    ttl: u32,
    pace: Pace,
}

#[derive(Deserialize)]
struct Started {
    action: Action,
}

#[derive(Deserialize)]
struct Action {
    id: u64,
    status: String,
    #[serde(default)]
    error: Value,
}

impl Hetzner {
    /// From `HETZNER_..`.
    pub(super) fn new(
        variables: Variables<'_>,
        lookup: &Lookup,
        base: &str,
    ) -> Result<Self, DnsError> {
        let token = variables
            .required(&["HETZNER_API_TOKEN"])
            .map_err(|error| {
                let has_key = variables.text(&["HETZNER_API_KEY"]).is_some();
                let ended = "hetzner: the API of HETZNER_API_KEY has ended; make a token of the \
                         Cloud API and set HETZNER_API_TOKEN";
                if has_key {
                    DnsError::Settings(ended.to_owned())
                } else {
                    error
                }
            })?;
        let timeout = ["HETZNER_HTTP_TIMEOUT"];
        Ok(Self {
            api: Api::new(CODE, base, variables, &timeout, explain)?.with_token(&token)?,
            lookup: lookup.clone(),
            ttl: variables.number(&["HETZNER_TTL"], 120),
            pace: pace(variables, "HETZNER", 60, 2),
        })
    }

    async fn change(&self, record: &Record, action: &str, body: &Value) -> Result<Reply, DnsError> {
        let zone = self.lookup.zone(&record.name).await;
        let zone = zone.map_err(|error| failed(CODE, &error))?;
        let name = below(&record.name, &zone)?;
        let path = [
            "zones",
            &plain(&zone),
            "rrsets",
            &name,
            "TXT",
            "actions",
            action,
        ];
        self.api.call(Method::POST, &path, &[], Some(body)).await
    }

    /// Waits until the change is made.
    async fn finish(&self, mut action: Action) -> Result<(), DnsError> {
        let deadline = Instant::now() + self.pace.timeout;
        let id = action.id.to_string();
        loop {
            match action.status.as_str() {
                "running" if Instant::now() < deadline => {}
                "running" => return Err(failed(CODE, &format!("the action {id} does not end"))),
                "error" => {
                    let reason = reason(&action.error).unwrap_or_default();
                    return Err(failed(CODE, &format!("the action {id} failed: {reason}")));
                }
                _ => return Ok(()),
            }
            sleep(self.pace.interval).await;
            let path = ["actions", id.as_str()];
            let reply = self.api.call(Method::GET, &path, &[], None);
            action = reply.await?.json::<Started>()?.action;
        }
    }
}

impl Provider for Hetzner {
    fn code(&self) -> &'static str {
        CODE
    }

    fn pace(&self) -> Pace {
        self.pace
    }

    async fn add(&self, record: &Record) -> Result<(), DnsError> {
        let body = json!({ "ttl": self.ttl, "records": [{ "value": quoted(record) }] });
        let reply = self.change(record, "add_records", &body).await?;
        self.finish(reply.json::<Started>()?.action).await
    }

    async fn remove(&self, record: &Record) -> Result<(), DnsError> {
        let body = json!({ "records": [{ "value": quoted(record) }] });
        let reply = self.change(record, "remove_records", &body).await?;
        if reply.status == http::StatusCode::NOT_FOUND {
            return Ok(());
        }
        self.finish(reply.json::<Started>()?.action).await
    }
}

/// As the API wants the value of TXT records.
fn quoted(record: &Record) -> String {
    format!("\"{}\"", record.proof.value())
}

fn explain(body: &Value) -> Option<String> {
    reason(body.get("error")?)
}

fn reason(error: &Value) -> Option<String> {
    let code = error.get("code")?.as_str()?;
    Some(format!("{} ({code})", error.get("message")?.as_str()?))
}

#[cfg(test)]
mod tests;
