//! A server that keeps the zone: lego's `httpreq`.
//!
//! `POST ENDPOINT/present` and `ENDPOINT/cleanup` with the record's name and value, or
//! with `HTTPREQ_MODE=RAW` the identifier, the token and the key authorization.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use http::header::AUTHORIZATION;
use serde_json::{Value, json};

use super::super::solver::{Pace, Provider, Record};
use super::super::variables::Variables;
use super::api::Api;
use super::{DnsError, pace};

const CODE: &str = "httpreq";

/// A server of the user's own.
#[derive(Debug)]
pub(super) struct HttpReq {
    api: Api,
    is_raw: bool,
    pace: Pace,
}

impl HttpReq {
    /// From `HTTPREQ_..`.
    pub(super) fn new(variables: Variables<'_>) -> Result<Self, DnsError> {
        let endpoint = variables.required(&["HTTPREQ_ENDPOINT"])?;
        let timeout = ["HTTPREQ_HTTP_TIMEOUT"];
        let mut api = Api::new(CODE, &endpoint, variables, &timeout, |_| None)?;
        let user = variables.text(&["HTTPREQ_USERNAME"]);
        let password = variables.text(&["HTTPREQ_PASSWORD"]);
        if let (Some(user), Some(password)) = (user, password) {
            let pair = STANDARD.encode(format!("{user}:{password}"));
            api = api.with_secret(AUTHORIZATION, &format!("Basic {pair}"))?;
        }
        Ok(Self {
            api,
            is_raw: variables.text(&["HTTPREQ_MODE"]).as_deref() == Some("RAW"),
            pace: pace(variables, "HTTPREQ", 60, 2),
        })
    }

    async fn post(&self, action: &str, record: &Record) -> Result<(), DnsError> {
        let body = self.body(record);
        let path = [action];
        let reply = self.api.call(Method::POST, &path, &[], Some(&body));
        reply.await?.done()
    }

    fn body(&self, record: &Record) -> Value {
        let proof = &record.proof;
        if self.is_raw {
            json!({
                "domain": record.identifier,
                "token": proof.token(),
                "keyAuth": proof.key_authorization(),
            })
        } else {
            json!({ "fqdn": record.name.to_ascii(), "value": proof.value() })
        }
    }
}

impl Provider for HttpReq {
    fn code(&self) -> &'static str {
        CODE
    }

    fn pace(&self) -> Pace {
        self.pace
    }

    async fn add(&self, record: &Record) -> Result<(), DnsError> {
        self.post("present", record).await
    }

    async fn remove(&self, record: &Record) -> Result<(), DnsError> {
        self.post("cleanup", record).await
    }
}

#[cfg(test)]
mod tests;
