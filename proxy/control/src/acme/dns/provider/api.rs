//! What the providers with an HTTP API share: addresses, credentials, JSON both ways,
//! and an error that holds the provider's own words.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::Full;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::variables::Variables;
use super::{DnsError, failed};
use crate::acme::https::{Https, HttpsError, Limits};
use crate::tls::client::ClientTls;

/// The largest answer that is read.
const LARGEST_ANSWER: usize = 1024 * 1024;

/// How much of an answer an error repeats.
const LONGEST_QUOTE: usize = 200;

/// What stays as it is within a part of a path or of a query.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A provider's API.
#[derive(Debug)]
pub(super) struct Api {
    code: &'static str,
    /// Without a slash at its end.
    base: String,
    https: Https,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Finds the reason in the body of a refusal.
    explain: fn(&Value) -> Option<String>,
}

/// An answer that is read.
#[derive(Debug)]
pub(super) struct Reply {
    code: &'static str,
    pub(super) status: StatusCode,
    body: Bytes,
    explain: fn(&Value) -> Option<String>,
}

impl Api {
    /// An API at `base`, whose refusals `explain` understands. `timeout` names the
    /// variables of the longest wait for an answer, lego's being 30 s.
    pub(super) fn new(
        code: &'static str,
        base: &str,
        variables: Variables<'_>,
        timeout: &[&str],
        explain: fn(&Value) -> Option<String>,
    ) -> Result<Self, DnsError> {
        let unusable = || DnsError::Settings(format!("{code}: {base:?} is not a URL of a server"));
        let uri: Uri = base.parse().map_err(|_| unusable())?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.query().is_some() {
            return Err(unusable());
        }
        let tls = ClientTls::default().config(&[]);
        let tls = tls.map_err(|error| failed(code, &error))?;
        let limits = Limits {
            head: None,
            whole: Some(variables.seconds(timeout, 30).max(Duration::from_secs(1))),
            body: LARGEST_ANSWER,
        };
        Ok(Self {
            code,
            base: base.trim_end_matches('/').to_owned(),
            https: Https::new(tls, limits).through(variables.proxies()),
            headers: Vec::new(),
            explain,
        })
    }

    /// Sends a header with each request, and keeps it out of every log.
    pub(super) fn with_secret(mut self, name: HeaderName, value: &str) -> Result<Self, DnsError> {
        let unusable = |_| DnsError::Settings(format!("{}: a credential is not text", self.code));
        let mut value = HeaderValue::from_str(value).map_err(unusable)?;
        value.set_sensitive(true);
        self.headers.push((name, value));
        Ok(self)
    }

    /// The same for a token of OAuth's kind.
    pub(super) fn with_token(self, token: &str) -> Result<Self, DnsError> {
        self.with_secret(AUTHORIZATION, &format!("Bearer {token}"))
    }

    /// Sends a request to the path of these parts below the base.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Reply, DnsError> {
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.method_mut() = method;
        *request.uri_mut() = self.address(path, query)?;
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.extend(self.headers.iter().cloned());
        if let Some(body) = body {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            *request.body_mut() = Full::new(Bytes::from(body.to_string()));
        }
        let response = self.https.send(request).await;
        let response = response.map_err(|error| failed(self.code, &with_cause(&error)))?;
        Ok(Reply {
            code: self.code,
            status: response.status(),
            body: response.into_body(),
            explain: self.explain,
        })
    }

    fn address(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Uri, DnsError> {
        let mut text = self.base.clone();
        for part in path {
            text.push('/');
            text.extend(utf8_percent_encode(part, PLAIN));
        }
        for (index, (name, value)) in query.iter().enumerate() {
            text.push(if index == 0 { '?' } else { '&' });
            text.push_str(name);
            text.push('=');
            text.extend(utf8_percent_encode(value, PLAIN));
        }
        text.parse()
            .map_err(|_| failed(self.code, &format!("{text:?} is no address")))
    }
}

impl Reply {
    /// The JSON of a success; anything else is an error with the provider's words.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, DnsError> {
        self.done()?;
        serde_json::from_slice(&self.body).map_err(|error| {
            failed(
                self.code,
                &format!("the answer can't be understood: {error}"),
            )
        })
    }

    /// Whether it is a success.
    pub(super) fn done(&self) -> Result<(), DnsError> {
        if self.status.is_success() {
            return Ok(());
        }
        Err(failed(
            self.code,
            &format!("{}: {}", self.status, self.reason()),
        ))
    }

    /// The same, where the thing may be gone already.
    pub(super) fn done_or_gone(&self) -> Result<(), DnsError> {
        if self.status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        self.done()
    }

    /// The body as JSON, whatever the status.
    pub(super) fn value(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    fn reason(&self) -> String {
        (self.explain)(&self.value()).unwrap_or_else(|| {
            let text = String::from_utf8_lossy(&self.body);
            let shown = text.chars().filter(|c| !c.is_control());
            shown.take(LONGEST_QUOTE).collect()
        })
    }
}

fn with_cause(error: &HttpsError) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
